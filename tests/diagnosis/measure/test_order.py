"""The order in which examples are served, against the analysis of variance of a shuffled order."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds
from downslope.diagnosis.measure.order import measure

X = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(400) % 4
NUMBERS = X[:, 0] + 0.1 * torch.randn(400, generator=torch.Generator().manual_seed(1))


def problem(y: torch.Tensor, *, shuffle: bool, rows: torch.Tensor | None = None) -> ds.Problem:
    x = X if rows is None else X[rows]
    loader = DataLoader(
        TensorDataset(x, y if rows is None else y[rows]), batch_size=20, shuffle=shuffle,
        generator=torch.Generator().manual_seed(5),
    )  # fmt: skip
    return ds.Problem(model=lambda: nn.Linear(3, 4), objective="cross_entropy", train=loader)


def test_classes_in_blocks_are_explained_by_their_batch_altogether() -> None:
    found = measure(problem(CLASSES, shuffle=False, rows=CLASSES.argsort()))
    assert found is not None
    assert found["explained"] == pytest.approx(1.0)
    assert found["expected"] == pytest.approx(19 / 399)
    assert found["z"] > 50
    assert found["repeats"]


def test_the_share_between_batches_is_that_of_the_analysis_of_variance() -> None:
    found = measure(problem(NUMBERS, shuffle=False))
    assert found is not None
    y = NUMBERS.double().reshape(20, 20)
    total = (y - y.mean()).square().sum()
    assert found["explained"] == pytest.approx(float(20 * (y.mean(1) - y.mean()).square().sum() / total))


def test_a_shuffled_order_has_a_share_that_chance_explains() -> None:
    orders = [torch.randperm(400, generator=torch.Generator().manual_seed(seed)) for seed in range(30)]
    made = [measure(problem(NUMBERS, shuffle=False, rows=rows)) for rows in orders]
    z = torch.tensor([each["z"] for each in made if each is not None])
    assert len(z) == 30
    assert float(z.std()) == pytest.approx(1.0, abs=0.35)
    assert float(z.mean()) == pytest.approx(0.0, abs=0.5)
    again = measure(problem(NUMBERS, shuffle=True))
    assert again is not None
    assert not again["repeats"]


def test_data_in_memory_and_constant_targets_have_no_order() -> None:
    held = ds.Problem(model=lambda: nn.Linear(3, 4), objective="cross_entropy", train=(X, CLASSES))
    assert measure(held) is None
    assert measure(problem(torch.ones(400), shuffle=False)) is None
