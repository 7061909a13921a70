"""An optimizer that is code: the run keeps all else, and a re-fit from its folder is refused in one line."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.cli import guard
from downslope.cli.main import main
from downslope.core.errors import DownslopeError, RecipeError
from tests.training.problems import regression


def own(slope: float) -> Callable[[Any], torch.optim.Optimizer]:
    """A factory with a setting inside, as no file can hold it."""

    def clipped_sgd(params: Any) -> torch.optim.Optimizer:
        class Signs(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                for group in self.param_groups:
                    for each in group["params"]:
                        each.grad.clamp_(-slope, slope)
                return super().step(closure)

        return Signs(params, lr=0.1)

    return clipped_sgd


HOW = ds.Recipe(optimizer=own(0.5), batch_size=16, epochs=2, seed=5, clip_norm=2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ds.fit(regression(), HOW, folder=tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_the_folder_keeps_the_name_of_the_code_and_every_other_field(folder: Path) -> None:
    table = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    assert table["optimizer_code"] == "clipped_sgd"
    assert "optimizer" not in table
    assert (table["seed"], table["batch_size"], table["epochs"], table["clip_norm"]) == (5, 16, 2, 2.0)
    loaded = ds.load_run(folder, regression())
    assert loaded.recipe is not None
    assert loaded.recipe.opaque
    assert (loaded.recipe.seed, loaded.recipe.clip_norm) == (5, 2.0)
    assert "clipped_sgd" in str(loaded.recipe)
    fresh = ds.fit(regression(), HOW, folder=False, progress=False)
    for a, b in zip(loaded.model().parameters(), fresh.model().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("verb", ["fit", "diagnose", "repair", "fit_population"])
def test_a_re_fit_of_what_was_read_back_is_refused_in_one_line(verb: str, folder: Path) -> None:
    recipe = ds.load_run(folder).recipe
    with pytest.raises(RecipeError) as told:
        getattr(ds, verb)(regression(), recipe, folder=False, progress=False)
    text = str(told.value)
    assert "the optimizer of this run was code (clipped_sgd), which no file holds" in text
    assert "recipe.edit(optimizer=...)" in text
    assert "\n" not in text


def test_saying_the_code_again_gives_the_same_run(folder: Path) -> None:
    recipe = ds.load_run(folder).recipe
    assert recipe is not None
    again = ds.fit(regression(), recipe.edit(optimizer=own(0.5)), folder=False, progress=False)
    first = ds.load_run(folder, regression()).model()
    for a, b in zip(again.model().parameters(), first.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_command_line_refuses_the_recipe_of_an_opaque_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("task_opaque.py").write_text("from tests.training.problems import regression as problem\n")
    assert main(["fit", "task_opaque.py", "--recipe", str(folder / "recipe.toml")]) == guard.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "code" in err
    assert "clipped_sgd" in err


def test_what_cannot_be_written_is_refused_in_one_line(folder: Path) -> None:
    recipe = ds.load_run(folder).recipe
    assert recipe is not None
    for given in (recipe, HOW):
        with pytest.raises(DownslopeError) as told:
            given.save(folder / "again.toml")
        assert "is code, a recipe file holds names" in str(told.value)
        assert "\n" not in str(told.value)
    assert not (folder / "again.toml").exists()
