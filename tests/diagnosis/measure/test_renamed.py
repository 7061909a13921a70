"""A permutation of class ids is found by what is taken for what, and nothing else passes for one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from downslope.diagnosis.measure.renamed import answers, renamed, right, taken


def said(target: Tensor, share: float, kinds: int, seed: int = 0) -> Tensor:
    """Right answers to a share of the examples, any to the others."""
    draw = torch.Generator().manual_seed(seed)
    other = torch.randint(kinds, target.shape, generator=draw)
    return torch.where(torch.rand(target.shape, generator=draw) < share, target, other)


@pytest.mark.parametrize("n", [160, 360])
@pytest.mark.parametrize("share", [0.7, 0.95])
@pytest.mark.parametrize("order", [[1, 2, 0, 3], [1, 0, 2, 3], [3, 2, 1, 0]])
def test_a_permutation_is_found_under_answers_that_are_right_in_part(
    order: list[int], share: float, n: int
) -> None:
    target = torch.arange(n) % 4
    ids = torch.argsort(torch.tensor(order))[target]  # the class that the label stands for is order[id]
    found = renamed(said(target, share, 4), ids, train=0.95)
    assert found is not None
    assert dict(found["moved"]) == {i: k for i, k in enumerate(order) if i != k}
    assert found["right"] == pytest.approx(share + (1 - share) / 4, abs=0.12)


def test_many_classes_of_few_examples_are_renamed_too() -> None:
    target = torch.arange(800) % 100
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    found = renamed(said(target, 0.8, 100), torch.argsort(order)[target], train=0.95)
    assert found is not None
    assert len(found["moved"]) > 80


@pytest.mark.parametrize("kinds", [2, 3, 10, 100])
@pytest.mark.parametrize("seed", range(8))
def test_answers_at_random_are_no_permutation(kinds: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    target, other = (torch.randint(kinds, (300,), generator=draw) for _ in range(2))
    assert renamed(other, target, train=1.0) is None


def _one_for_another(target: Tensor) -> Tensor:
    return torch.where(target == 3, 2, target)


def _some_of_two(target: Tensor) -> Tensor:
    return torch.where((target < 2) & (torch.arange(len(target)) % 5 < 2), 1 - target, target)


def _the_first_for_all(target: Tensor) -> Tensor:
    return torch.zeros_like(target)


@pytest.mark.parametrize("confused", [_one_for_another, _some_of_two, _the_first_for_all])
def test_confusions_that_are_no_permutation_are_none(confused: Any) -> None:
    target = torch.arange(400) % 4
    assert renamed(confused(target), target, train=0.95) is None


def test_what_was_not_learnt_tells_nothing() -> None:
    target = torch.arange(400) % 4
    assert renamed((target + 1) % 4, target, train=0.4) is None
    assert renamed((target[:5] + 1) % 4, target[:5], train=1.0) is None
    assert renamed((target + 1) % 4, target, train=1.0) is not None


def test_classes_are_read_off_scores_of_either_form() -> None:
    ids, scores = torch.tensor([0, 1, 1]), torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0]])
    assert right(taken(scores, ids, labels=True)) == pytest.approx(2 / 3)
    assert taken(scores, ids, labels=False) is None
    assert taken(scores[:, :1], ids, labels=True) is None
    flags = ids.float()[:, None]
    assert right(answers(torch.tensor([[-1.0], [2.0], [-3.0]]), flags, 0.0)) == pytest.approx(2 / 3)
    assert answers(torch.tensor([-1.0, 2.0, -3.0]), torch.tensor([0.0, 0.5, 1.0]), 0.0) is None
    assert right(None) is None
