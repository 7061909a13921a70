"""Cross-entropies of many rows are torch's, and so are their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downslope.training.population.entropies import cross_entropies, with_slopes

DRAW = torch.Generator().manual_seed(0)


def both(z: Tensor, target: Tensor, shares: list[float] | None) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradients here, and row by row by torch."""
    slopes = torch.linspace(-1, 2, len(z), dtype=z.dtype)
    z = z.clone().requires_grad_()
    ours = cross_entropies(z, target, None if shares is None else torch.tensor(shares, dtype=z.dtype))
    each = zip(z.split(1), target.split(1), shares or [0.0] * len(z), strict=True)
    theirs = torch.stack([functional.cross_entropy(a, b, label_smoothing=share) for a, b, share in each])
    flat = ours.flatten(1).mean(1) if ours.dim() > 1 else ours
    gradients = [torch.autograd.grad((each * slopes).sum(), z)[0] for each in (flat, theirs)]
    return [flat.detach(), gradients[0]], [theirs.detach(), gradients[1]]


@pytest.mark.parametrize("shares", [None, [0.0, 0.1, 0.5, 1.0, 0.0]])
@pytest.mark.parametrize("shape", [(5, 2), (5, 10), (5, 300), (5, 4, 3)])
@pytest.mark.parametrize("soft", [False, True])
def test_losses_and_gradients_are_torchs(
    shape: tuple[int, ...], shares: list[float] | None, soft: bool
) -> None:
    z = torch.randn(shape, generator=DRAW, dtype=torch.float64) * 3
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=DRAW)
    if soft:
        target = torch.randn(shape, generator=DRAW, dtype=torch.float64).softmax(1)
    ours, theirs = both(z, target, shares)
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_large_logits_keep_their_digits() -> None:
    z = torch.tensor([[1e4, 1e4 - 1, 0.0], [-1e30, 1e30, 0.0], [3e38, -3e38, 0.0]])
    ours, theirs = both(z, torch.tensor([1, 1, 0]), None)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    assert ours[0].tolist() == [pytest.approx(1 + math.log1p(math.exp(-1.0))), 0.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_left_the_numbers_takes_no_other_with_it(bad: float) -> None:
    z = torch.randn(3, 4, generator=DRAW)
    z[1, 2] = bad
    losses = cross_entropies(z, torch.tensor([0, 1, 2]))
    assert losses.isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("shares", [None, [0.0, 0.1, 0.5, 1.0, 0.0]])
def test_slopes_without_a_graph_are_those_of_the_sum(shares: list[float] | None) -> None:
    z = torch.randn(5, 4, generator=DRAW, dtype=torch.float64) * 3
    target = torch.randint(0, 4, (5,), generator=DRAW)
    share = None if shares is None else torch.tensor(shares, dtype=z.dtype)
    losses, slopes = with_slopes(z, target, share)
    leaf = z.clone().requires_grad_()
    theirs = cross_entropies(leaf, target, share)
    torch.testing.assert_close(losses, theirs.detach(), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(slopes, torch.autograd.grad(theirs.sum(), leaf)[0], rtol=1e-13, atol=1e-13)
