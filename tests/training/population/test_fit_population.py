"""Populations: one member for every recipe and seed, problems in step with recipes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import downslope as ds
from downslope.core.errors import RecipeError
from tests.training.problems import regression, same_history

HOW = ds.Recipe(lr=0.01, batch_size=16, epochs=2)


def test_members_come_recipe_by_recipe_and_have_folders_of_their_own(tmp_path: Path) -> None:
    runs = ds.fit_population(
        regression(), [HOW, HOW.edit(lr=0.1)], seeds=[1, 2], folder=tmp_path, progress=False
    )
    settings = [(run.recipe.lr, run.recipe.seed) for run in runs if run.recipe is not None]
    assert settings == [(0.01, 1), (0.01, 2), (0.1, 1), (0.1, 2)]
    assert [each.name for each in sorted(tmp_path.iterdir())] == [f"member-{i:03d}" for i in range(4)]
    assert same_history(ds.load_run(tmp_path / "member-002"), runs[2])


def test_each_recipe_may_have_a_problem_of_its_own() -> None:
    wide = regression().edit(**{"model.width": 16})
    runs = ds.fit_population([regression(), wide], [HOW, HOW], progress=False)
    assert [run.weights["last"]["0.weight"].shape[0] for run in runs] == [8, 16]


@pytest.mark.parametrize("recipes", [[], [HOW]])
def test_problems_out_of_step_with_recipes_are_refused(recipes: list[ds.Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"^[^\n]*one problem for all[^\n]*$"):
        ds.fit_population([regression(), regression()], recipes, progress=False)


def test_a_member_that_fails_ends_the_population_or_says_why() -> None:
    def broken(output: object, target: object) -> object:
        raise RuntimeError("no objective at all")

    sick = regression(objective=broken)
    with pytest.raises(Exception, match="no objective at all"):
        ds.fit_population([regression(), sick, regression()], [HOW] * 3, progress=False)
    runs = ds.fit_population([regression(), sick, regression()], [HOW] * 3, progress=False, strict=False)
    assert [run.status for run in runs] == ["done", "failed", "done"]
    assert "no objective at all" in runs[1].facts["error"]


def test_a_population_whose_time_is_up_trains_nobody() -> None:
    assert ds.fit_population(regression(), [HOW, HOW], progress=False, until=time.monotonic() - 1.0) == []
