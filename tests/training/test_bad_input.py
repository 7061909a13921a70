"""Unusable input is one clear line, and no folder is left that could be taken for a Run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

import downslope as ds
from downslope.core.errors import InputError, RunFolderError
from tests.training.problems import classification, data, labels, mlp, regression


def poisoned(
    row: int, column: int, value: float = math.nan, *, target: bool = False
) -> tuple[Tensor, Tensor]:
    x, y = data()
    (y if target else x)[row, column] = value
    return x, y


def frozen() -> nn.Module:
    model = mlp()
    model.requires_grad_(False)
    return model


def failing(**arguments: Any) -> nn.Module:
    raise ValueError("no such layer\nsecond line")


def raising(output: Any, target: Any) -> float:
    raise KeyError("metric")


def late(output: Any, target: Any) -> float:
    return "high"  # type: ignore[return-value]


X, Y = data()


class Unsized(IterableDataset[Any]):
    """Seventeen examples, of which nothing tells beforehand how many there are."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X[:17], Y[:17], strict=True))


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "a nan in the inputs": (
        lambda: regression(train=poisoned(7, 2)), "train inputs, row 7, column 2 (counted from 0): nan;"),
    "an infinity in the targets": (
        lambda: regression(train=poisoned(3, 0, math.inf, target=True)),
        "train target, row 3, column 0 (counted from 0): inf;"),
    "a nan in validation": (
        lambda: regression(valid=poisoned(1, 1)), "valid inputs, row 1, column 1 (counted from 0): nan;"),
    "lengths that differ": (lambda: regression(train=(X, Y[:-1])), "same first dimension"),
    "no example": (lambda: regression(train=(X[:0], Y[:0])), "the data is empty"),
    "inputs of another width": (lambda: regression(train=(X[:, :3], Y)), "(16, 3)"),
    "validation of another width": (lambda: regression(valid=(X[:, :3], Y)), "(50, 3)"),
    "targets of another width": (lambda: regression(train=(X, Y.repeat(1, 2))), "differ in shape"),
    "classes beyond the outputs": (
        lambda: classification(train=(labels()[0], labels()[1] + 5)), "class index outside"),
    "a vector objective": (
        lambda: regression(objective=lambda o, t: ((o - t) ** 2).squeeze(1)), "must return one number"),
    "an objective that returns a float": (
        lambda: regression(objective=lambda o, t: 0.5), "must return a tensor with one number"),
    "an objective that cuts the gradient": (
        lambda: regression(objective=lambda o, t: ((o.detach() - t) ** 2).mean()), "no gradient"),
    "an objective that is unknown": (
        lambda: regression(objective="squareerror"), "did you mean 'squared_error'"),
    "no objective and no loss": (lambda: regression(objective=None), "which returns a loss"),
    "a metric that is unknown": (lambda: regression(metric="acuracy"), "did you mean 'accuracy'"),
    "a metric that raises": (lambda: regression(metric=raising), "the metric failed"),
    "a metric that is no number": (lambda: regression(metric=late), "the metric failed"),
    "a model without parameters": (lambda: regression(model=nn.Identity), "has no parameters"),
    "a model that is frozen": (lambda: regression(model=frozen), "is frozen"),
    "a factory that raises": (lambda: regression(model=failing), "no such layer"),
    "a factory that makes no module": (lambda: regression(model=lambda: 3), "must return an nn.Module"),
    "a factory with other arguments": (lambda: regression(arguments={"wdth": 3}), "wdth"),
    "a model that is no factory": (lambda: regression(model=3), "must be a factory"),
    "a batch norm that meets one example": (
        lambda: regression(
            model=lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)),
            train=Unsized()), "step 2 failed on a batch of shapes [(1, 4), (1, 1)]"),
    "a goal that is no number": (lambda: regression(goal=math.nan), "goal=nan"),
    "a field that is misspelt": (lambda: regression().edit(objectiv="huber"), "did you mean 'objective'"),
    "an argument that is misspelt": (
        lambda: regression().edit(**{"model.widht": 3}), "did you mean 'width'"),
    "an unknown device": (lambda: (regression(), ds.Recipe(device="tpux")), "device='tpux'"),
    "momentum out of range": (
        lambda: (regression(), ds.Recipe(optimizer="sgd", momentum=-1.0)), "momentum=-1"),
    "a rate of lr < 0": (lambda: (regression(), ds.Recipe(lr=-1)), "lr=-1"),
    "decay that the optimizer lacks": (
        lambda: (regression(), ds.Recipe(optimizer="torch.optim:Rprop", weight_decay=0.1)),
        "no weight decay"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_unusable_input_is_one_clear_line_and_leaves_no_run(case: str, tmp_path: Path) -> None:
    make, part = CASES[case]
    with pytest.raises(InputError) as told:  # noqa: PT012 (some are refused before fit)
        made = make()
        problem, recipe = made if isinstance(made, tuple) else (made, ds.Recipe(batch_size=16, epochs=1))
        ds.fit(problem, recipe, folder=tmp_path / "run", progress=False)
    assert part in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "run").exists() or case == "a batch norm that meets one example"


def test_a_run_that_failed_midway_says_how_far_it_came(tmp_path: Path) -> None:
    made = CASES["a batch norm that meets one example"][0]()
    problem, recipe = made if isinstance(made, tuple) else (made, ds.Recipe(batch_size=16, epochs=1))
    with pytest.raises(InputError, match="step 2 failed"):
        ds.fit(problem, recipe, folder=tmp_path / "run", progress=False)
    run = ds.load_run(tmp_path / "run")
    assert run.status == "failed"
    assert run.summary["steps"] == 1
    assert run.summary["seconds"] > 0


def test_a_folder_that_held_something_else_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError):
        ds.fit(regression(metric=raising), ds.Recipe(epochs=1), folder=tmp_path / "run", progress=False)
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path: Path) -> None:
    recipe = ds.Recipe(epochs=1)
    ds.fit(regression(), recipe, folder=tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(RunFolderError, match="holds a run already"):
        ds.fit(regression(), recipe, folder=tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunFolderError, match="cannot be written"):
        ds.fit(regression(), ds.Recipe(epochs=1), folder=tmp_path / "file" / "run", progress=False)


def test_lazy_modules_are_told_or_trained() -> None:
    problem = regression(model=lambda: nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(1)))
    torch.manual_seed(0)
    run = ds.fit(problem, ds.Recipe(epochs=3, lr=0.01), folder=False, progress=False)
    assert run.summary["valid_loss"] < run.history.series("valid_loss").values[0]
    assert run.model()(data(3, torch.float32)[0]).shape == (3, 1)
