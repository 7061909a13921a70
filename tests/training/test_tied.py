from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downslope.training.facts.tied import tied

G = torch.Generator().manual_seed(0)
CLASSES = torch.eye(10)[torch.arange(200) % 10]
PAIRS = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])


def least(y: Tensor) -> float:
    """Mean over rows of the least loss of a softmax, above that of free outputs, by LBFGS on its scores."""
    scores = torch.zeros_like(y, requires_grad=True)
    rule = torch.optim.LBFGS([scores], max_iter=400, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        rule.zero_grad()
        loss = functional.binary_cross_entropy(scores.softmax(1), y, reduction="sum")
        loss.backward()
        return loss

    rule.step(closure)
    free = functional.binary_cross_entropy(y, y, reduction="sum")
    return float(closure().detach() - free) / len(y)


@pytest.mark.parametrize("k", [2, 4, 7])
def test_the_cost_is_that_which_training_the_scores_leaves(k: int) -> None:
    y = torch.rand(12, k, generator=G, dtype=torch.float64)
    found, mean = tied(y), y.mean(0, keepdim=True)
    assert found is not None
    whole = functional.binary_cross_entropy(mean.expand_as(y), y, reduction="sum")
    way = float(whole - functional.binary_cross_entropy(y, y, reduction="sum")) / len(y)
    assert found["most"] == pytest.approx(least(y) / way, rel=1e-6)
    assert found["surely"] == pytest.approx(least(mean) / way, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("y", [CLASSES, 0.9 * CLASSES + 0.01], ids=["one-hot", "smoothed"])
def test_rows_that_sum_to_one_cost_nothing(y: Tensor) -> None:
    found = tied(y)
    assert found is not None
    assert found["most"] == pytest.approx(0.0, abs=1e-9)


def test_two_labels_of_four_cost_what_the_formula_says() -> None:
    found = tied(PAIRS)
    assert found is not None
    way = 4 * math.log(2)
    assert found["most"] == pytest.approx(2 * math.log(2) / way)  # two halves in the place of two ones
    quarters = -2 * (math.log(1 / 4) + math.log(3 / 4))
    assert found["surely"] == pytest.approx((quarters - way) / way)
    assert (found["low"], found["mean"], found["high"]) == (2.0, 2.0, 2.0)


def test_planes_of_labels_are_taken_along_their_classes() -> None:
    assert tied(PAIRS[:, :, None, None].expand(2, 4, 3, 5)) == pytest.approx(tied(PAIRS))


@pytest.mark.parametrize("y", [torch.ones(5), torch.ones(5, 1), 3 * torch.eye(4), torch.ones(5, 3)])
def test_what_is_no_rows_of_labels_is_not_judged(y: Tensor) -> None:
    assert tied(y) is None
