"""Columns that are distributed alike are told apart by the target and by one another."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from downslope.diagnosis.measure.matched import agrees, order, usual


def alike(n: int, seed: int, d: int = 8) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


ORDER = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])


def undone(found: tuple[int, ...]) -> bool:
    """Whether the order brings permuted columns back: column i of training is ORDER's place of i."""
    return torch.equal(ORDER[list(found)], torch.arange(len(ORDER)))


def test_a_number_that_every_column_has_its_own_part_in_tells_them_apart() -> None:
    x, xv = alike(2000, 0), alike(800, 1)
    weights = torch.linspace(-2, 2, 8)
    y, yv = (each @ weights for each in (x, xv))
    assert undone(order((x, y[:, None]), (xv[:, ORDER], yv[:, None])))
    assert undone(order((x, y), (xv[:, ORDER], yv)))
    assert not undone(order((x, None), (xv[:, ORDER], None)))


def test_classes_that_every_column_has_its_own_part_in_tell_them_apart() -> None:
    draw = torch.Generator().manual_seed(2)
    y, yv = (torch.randint(5, (n,), generator=draw) for n in (1500, 600))
    centres = 1.5 * torch.randn(5, 8, generator=draw)
    x, xv = alike(1500, 0) + centres[y], alike(600, 1) + centres[yv]
    x, xv = ((each - x.mean(0)) / x.std(0) for each in (x, xv))
    assert undone(order((x, y), (xv[:, ORDER], yv)))


def test_a_change_agrees_where_the_parts_are_alike_after_it_and_not_where_chance_was_learnt() -> None:
    draw = torch.Generator().manual_seed(2)
    y, yv = (torch.randint(4, (n,), generator=draw) for n in (300, 300))
    centres = torch.randn(4, 8, generator=draw)
    x, xv = alike(300, 0) + centres[y], alike(300, 1) + centres[yv]
    turned = xv[:, ORDER]
    assert agrees((x, y), (turned, yv), (xv, yv))
    assert not agrees((x, y), (xv, yv), (xv, yv))
    assert agrees((x, y), (xv, (yv + 1) % 4), (xv, yv))
    chance = y[torch.randperm(300, generator=draw)]
    best = order((x, chance), (turned, yv))
    assert not agrees((x, chance), (turned, yv), (turned[:, list(best)], yv))


@pytest.mark.parametrize("columns", [3, 12, 64])
def test_usual_slips_are_orders_of_the_columns(columns: int) -> None:
    found = list(usual(columns))
    assert found[0][1] == tuple(range(columns))[::-1]
    assert all(sorted(each) == list(range(columns)) for _, each in found)
    assert len(found) == (4 if columns == 64 else 1)


def test_constant_columns_and_targets_of_other_shapes_are_no_hindrance() -> None:
    x, xv = alike(100, 0), alike(80, 1)
    x[:, 2] = xv[:, 2] = 0.0
    y, yv = torch.zeros(100, 3), torch.zeros(80)
    assert sorted(order((x, y), (xv, yv))) == list(range(8))
    assert sorted(order((x, y), (xv, torch.zeros(80, 3)))) == list(range(8))
