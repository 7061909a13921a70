"""A verb that is given no problem, or no recipe, says so in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import downslope as ds
from downslope.core.errors import InputError, RecipeError
from tests.training.problems import mlp, regression

VERBS: dict[str, Callable[..., Any]] = {"fit": ds.fit, "diagnose": ds.diagnose, "repair": ds.repair}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("given", [3, None, "task.py", mlp, {"model": mlp}])
def test_what_is_no_problem_is_refused(verb: str, given: Any) -> None:
    with pytest.raises(InputError) as told:
        VERBS[verb](given, folder=False)
    text = str(told.value)
    assert text.startswith("problem=")
    assert "must be a ds.Problem(model=..., objective=..., train=...)" in text
    assert "\n" not in text


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("given", [{"lr": 0.1}, "adam", 0.1])
def test_what_is_no_recipe_is_refused(verb: str, given: Any) -> None:
    with pytest.raises(RecipeError) as told:
        VERBS[verb](regression(), given, folder=False)
    assert str(told.value) == f"recipe={given!r}: must be a ds.Recipe, such as ds.Recipe(lr=0.01)"


def test_diagnose_says_that_it_takes_a_run_too() -> None:
    with pytest.raises(InputError, match=r"or a Run$"):
        ds.diagnose(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_of_time_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InputError, match=r"observe=.*must lie in \[0, 1\)"):
        ds.fit(regression(), folder=False, progress=False, observe=share)
