"""Targets that a loss is not made for are refused by `fit` in one line, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import DataError

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
ONE = torch.arange(60) % 2
TEN = torch.arange(60) % 10
DIGITS = torch.rand(60, 64, generator=torch.Generator().manual_seed(1)) * 16


def fitted(y: Any, objective: Any, model: Any = "linear") -> ds.Run:
    train = y if model == "vae" else (X, y)
    problem = ds.Problem(model=model, objective=objective, train=train)
    return ds.fit(problem, ds.Recipe(epochs=1, lr=1e-3), folder=False, progress=False)


def one() -> nn.Module:
    return nn.Linear(4, 1)


@pytest.mark.parametrize(
    ("y", "objective", "model", "said"),
    [
        (50 + X[:, 0], "hinge", "linear", f"train target, row 0 (counted from 0): {50 + float(X[0, 0]):g}"),
        (torch.full((60,), 0.5), "hinge", "linear", "row 0 (counted from 0): 0.5, the first of 60"),
        (TEN, "hinge", one, "row 2 (counted from 0): 2, the first of 48"),
        (ONE.float() * 2 - 1, "logistic", "linear", "row 0 (counted from 0): -1, the first of 30"),
        (ONE * 2 - 1, nn.BCEWithLogitsLoss(), "linear", "BCEWithLogitsLoss wants 0 to 1"),
        (TEN, "logistic", "linear", "row 2 (counted from 0): 2, the first of 48 outside [0, 1]"),
        (TEN.float(), "logistic", "linear", "row 2 (counted from 0): 2, the first of 48"),
        (50 + X[:, 0], ds.objectives.penalised("logistic", l2=0.1), "linear", "outside [0, 1]"),
        (DIGITS, "elbo", "vae", "elbo's Bernoulli reconstruction wants 0 to 1"),
    ],
)
def test_what_a_loss_is_not_made_for_is_one_line(y: Tensor, objective: Any, model: Any, said: str) -> None:
    if isinstance(objective, nn.Module):
        y = y.float()[:, None]
    with pytest.raises(DataError) as told:
        fitted(y, objective, model)
    assert said in str(told.value), told.value
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("y", "objective", "model"),
    [
        (ONE * 2 - 1, "hinge", "linear"),
        (ONE.float(), "hinge", "linear"),
        (ONE > 0, "hinge", "linear"),
        (TEN, "hinge", "linear"),
        (ONE > 0, "logistic", "linear"),
        (ONE * 0.8 + 0.1, "logistic", "linear"),
        (DIGITS / 16, "elbo", "vae"),
        (DIGITS, ds.objectives.make("elbo", likelihood="gaussian"), "vae"),
    ],
)
def test_what_a_loss_is_made_for_trains(y: Tensor, objective: Any, model: Any) -> None:
    assert fitted(y, objective, model).status == "done"


def test_a_diagnosis_names_such_targets_instead() -> None:
    problem = ds.Problem(model=one, objective="logistic", train=(X, (X[:, :1] > 0) * 2.0 - 1))
    found = ds.diagnose(problem, ds.Recipe(epochs=5, lr=0.01), folder=False, progress=False)
    assert found.root is not None
    assert found.root.symptom == "objective-mismatch"
