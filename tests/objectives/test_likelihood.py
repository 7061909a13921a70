from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from downslope.core.errors import ObjectiveError
from downslope.objectives import bernoulli, categorical, meaning

Z = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLASS = torch.arange(12) % 5


def test_categorical_on_a_softmax_is_the_cross_entropy_on_its_scores() -> None:
    found = categorical(Z.softmax(1), CLASS)
    torch.testing.assert_close(found, functional.cross_entropy(Z, CLASS))


def test_its_gradient_on_the_scores_is_that_of_the_cross_entropy() -> None:
    a, b = Z.clone().requires_grad_(), Z.clone().requires_grad_()
    categorical(a.softmax(1), CLASS).backward()
    functional.cross_entropy(b, CLASS).backward()
    torch.testing.assert_close(a.grad, b.grad)


def test_categorical_takes_rows_of_probabilities_as_targets() -> None:
    q = Z.flip(0).softmax(1)
    torch.testing.assert_close(categorical(Z.softmax(1), q), functional.cross_entropy(Z, q))


def test_a_probability_of_zero_costs_a_finite_amount() -> None:
    p = torch.tensor([[0.0, 1.0]])
    assert categorical(p, torch.tensor([0])).item() == pytest.approx(87.3, abs=0.1)


def test_bernoulli_is_torchs_and_aligns_one_trailing_axis() -> None:
    p, y = Z[:, :1].sigmoid(), (Z[:, 1] > 0).long()
    wanted = functional.binary_cross_entropy(p.squeeze(1), y.double())
    torch.testing.assert_close(bernoulli(p, y), wanted)


def test_bernoulli_broadcasts_nothing() -> None:
    with pytest.raises(ObjectiveError, match="differ in shape"):
        bernoulli(torch.rand(3, 2), torch.ones(3))


def test_both_say_what_they_expect() -> None:
    assert (meaning("categorical").expects, meaning("bernoulli").expects) == ("probabilities", "probability")
