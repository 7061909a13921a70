"""Beside a member that differs from it in one field alone a member is still what `fit` gives: every field."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import StandardiseInputs
from tests.training.population.test_equal_to_fit import TRAIN, VALID, off


def net(width: int = 5) -> nn.Module:
    """Two layers with batch norm between them, which `frozen` tells apart."""
    return nn.Sequential(
        nn.Linear(6, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3)
    )


def other() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def summed(output: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, target, reduction="sum") / 30


def doubled(batch: Any) -> Any:
    return (2 * batch[0],), {}, batch[1]


def whole(batch: Any) -> Any:
    return (batch[0],), {}, batch[1]


# Of every field two values that give other runs, and what else is to be said for that.
RECIPES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "optimizer": ("sgd", "adam", {}),
    "lr": (0.01, 0.1, {}),
    "batch_size": (15, 25, {}),
    "accumulate": (1, 3, {}),
    "epochs": (1, 2, {"steps": None}),
    "steps": (4, 6, {}),
    "schedule": (None, "cosine", {}),
    "warmup": (0, 4, {}),
    "schedules": ({}, {"momentum": "cosine"}, {"optimizer": "momentum"}),
    "weight_decay": (0.0, 0.3, {}),
    "decay": ("weights", "all", {"weight_decay": 0.3}),
    "groups": ([], [{"params": "0.*", "lr": 1e-3}], {}),
    "layer_decay": (None, 0.5, {}),
    "unfreeze": (None, 1, {"epochs": 3, "steps": None}),
    "frozen": ("eval", "train", {"groups": [{"params": f"{i}.*", "train": False} for i in (0, 1)]}),
    "clip_norm": (None, 0.05, {}),
    "clip_value": (None, 0.005, {}),
    "average": (None, "polyak", {}),
    "average_from": (0.0, 0.5, {"average": "polyak"}),
    "average_every": (1, 3, {"average": "polyak"}),
    "average_decay": (0.5, 0.9, {"average": "ema"}),
    "init": (None, {"name": "normal", "std": 0.5}, {}),
    "patience": (None, 1, {"epochs": 6, "steps": None, "lr": 0.5}),
    "precision": ("float64", "float32", {}),
    "device": ("auto", "cpu", {}),
    "seed": (0, 1, {}),
    "settings": ({"momentum": 0.0}, {"momentum": 0.9}, {"optimizer": "momentum"}),
}

PROBLEMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "model": (net, other, {}),
    "objective": ("cross_entropy", summed, {}),
    "train": (TRAIN, tuple(each[:60] for each in TRAIN), {}),
    "valid": (VALID, tuple(each[:20] for each in VALID), {}),
    "metric": ("accuracy", None, {}),
    "goal": (None, 0.2, {}),
    "metric_goal": ("max", "min", {}),
    "maximize": (False, True, {}),
    "constraint": (None, "l2_ball(0.5)", {}),
    "augment": (None, "noise(0.3)", {}),
    "split": (whole, doubled, {}),
    "arguments": ({"width": 5}, {"width": 4}, {}),
    "target": ("a", "b", {"model": "linear", "objective": "squared_error", "metric": None, "valid": None}),
    "weights": (None, net().double().state_dict(), {}),
    "name": ("one", "other", {}),
    "edits": ((), (StandardiseInputs(),), {}),
    "task": (None, "file.py", {}),
}


def recipe(**changes: Any) -> ds.Recipe:
    given = {"optimizer": "sgd", "lr": 0.05, "batch_size": 15, "steps": 6, "precision": "float64"} | changes
    settings = given.pop("settings", {})
    return ds.Recipe(**{key: value for key, value in given.items() if value is not None}, **settings)


def problem(**changes: Any) -> ds.Problem:
    given: dict[str, Any] = {
        "model": net, "objective": "cross_entropy", "train": TRAIN, "valid": VALID, "metric": "accuracy",
    } | changes  # fmt: skip
    return ds.Problem(**given)


def same_beside(pairs: list[tuple[ds.Problem, ds.Recipe]]) -> None:
    """Each of two members is what it is alone, whichever comes first; the two are not the same."""
    alone = [ds.fit(one, how, folder=False, progress=False, observe=0.0) for one, how in pairs]
    for order in ([0, 1], [1, 0]):
        beside = ds.fit_population(
            [pairs[i][0] for i in order], [pairs[i][1] for i in order], progress=False, way="together"
        )
        for run, i in zip(beside, order, strict=True):
            assert (run.status, run.summary["steps"]) == (alone[i].status, alone[i].summary["steps"])
            share = 1e-5 if run.choices["precision"] == "float32" else 1e-9
            for which in ("last", "best"):
                assert off(run, alone[i], which) <= share
            for name in ("valid_loss", "valid_metric", "train_metric"):
                own = alone[i].summary.get(name)
                wanted = own if own is None else pytest.approx(own, rel=max(share, 1e-7))
                assert run.summary.get(name) == wanted
            assert run.summary["best_step"] == alone[i].summary["best_step"]
            assert run.summary["model"] == alone[i].summary["model"]


def test_no_field_is_left_out_here() -> None:
    assert set(RECIPES) == set(ds.Recipe.model_fields)
    assert set(PROBLEMS) == {each.name for each in fields(ds.Problem)}


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_that_differ_in_one_field(name: str) -> None:
    one, another, rest = RECIPES[name]
    hows = [recipe(**rest | {name: value}) for value in (one, another)]
    same_beside([(problem(), how) for how in hows])


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_problems_that_differ_in_one_field(name: str, tmp_path: Path) -> None:
    one, another, rest = PROBLEMS[name]
    if name == "target":
        rows = [f"{i % 7},{i % 5},{(i * i) % 11 / 10},{i % 9 / 7}" for i in range(40)]
        (tmp_path / "t.csv").write_text("\n".join(["x,y,a,b", *rows]) + "\n")
        rest = rest | {"train": tmp_path / "t.csv"}
    ones = [problem(**rest | {name: value}) for value in (one, another)]
    same_beside([(each, recipe(lr=1e-3 if name == "target" else 0.05)) for each in ones])
