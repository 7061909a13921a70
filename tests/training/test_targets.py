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


def scores() -> nn.Module:
    return nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("y", "objective", "model"),
    [
        (ONE * 0, "cross_entropy", scores),
        (ONE * 0 + 1, "cross_entropy", "mlp"),
        (ONE * 0 + 1, nn.CrossEntropyLoss(), scores),
        (torch.where(ONE == 1, -100, 1), "cross_entropy", scores),
        (torch.ones(60), "logistic", "linear"),
        (torch.zeros(60, 1), "logistic", one),
        (torch.ones(60), "hinge", "linear"),
    ],
)
def test_one_class_alone_is_refused_by_fit_and_found_by_diagnose(
    y: Tensor, objective: Any, model: Any
) -> None:
    with pytest.raises(
        DataError, match=r"train: all \d+ targets are class [01]: there is nothing to tell apart"
    ):
        fitted(y, objective, model)
    if y.dtype == torch.int64 and y.min() == -100:
        return
    problem = ds.Problem(model=model, objective=objective, train=(X, y))
    found = ds.diagnose(problem, ds.Recipe(steps=5, lr=1e-3), folder=False, progress=False)
    assert found.findings[0].symptom == "constant-target"


@pytest.mark.parametrize(
    ("y", "objective", "said"),
    [
        (ONE - 1, "cross_entropy", "row 0 (counted from 0): -1 (the first of 30 below 0) is no class"),
        (
            torch.where(torch.arange(60) == 7, -1, ONE),
            nn.CrossEntropyLoss(),
            "row 7 (counted from 0): -1 is no",
        ),
        (2 * ONE - 1, "cross_entropy", "(y + 1) // 2 numbers them so"),
    ],
)
@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("model", ["mlp", scores])
def test_negative_classes_are_told_with_their_row_and_what_to_do(
    y: Tensor, objective: Any, said: str, part: str, model: Any
) -> None:
    given = {"train": (X, ONE), "valid": (X, ONE)} | {part: (X, y)}
    with pytest.raises(DataError) as told:
        ds.fit(ds.Problem(model=model, objective=objective, **given), ds.Recipe(steps=1), folder=False)
    assert str(told.value).startswith(f"{part} target, ")
    assert said in str(told.value)


def test_the_index_that_an_objective_ignores_is_no_fault() -> None:
    y = torch.where(torch.arange(60) == 7, -1, ONE)
    assert fitted(y, nn.CrossEntropyLoss(ignore_index=-1), scores).status == "done"
    assert fitted(torch.where(y < 0, -100, y), "cross_entropy", scores).status == "done"


class Anew(torch.utils.data.Dataset[Any]):
    """Examples that differ from pass to pass, which therefore stream."""

    def __init__(self, y: Tensor) -> None:
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + 0 * torch.rand(4), self.y[index]


@pytest.mark.parametrize("kind", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("objective", ["cross_entropy", nn.CrossEntropyLoss()])
def test_unsigned_labels_train_as_signed_ones_from_every_source(kind: torch.dtype, objective: Any) -> None:
    def losses(y: Tensor) -> list[float]:
        pairs = torch.utils.data.TensorDataset(X, y)
        sources = ((X, y), pairs, torch.utils.data.DataLoader(pairs, 20), Anew(y))
        how = ds.Recipe(steps=3, seed=1)
        return [
            ds.fit(
                ds.Problem(model=scores, objective=objective, train=each), how, folder=False, progress=False
            ).summary["train_loss"]
            for each in sources
        ]

    assert losses(ONE.to(kind)) == losses(ONE)
