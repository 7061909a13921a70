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


def alone(z: Tensor, target: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Torch's objective of one member, and its gradient."""
    leaf = z.clone().requires_grad_()
    loss = functional.cross_entropy(leaf, target, label_smoothing=share)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 29, 10), (5, 64, 2), (2, 1, 3), (33, 7, 4), (2, 40, 300), (4, 37, 16)])
@pytest.mark.parametrize("smoothed", [False, True])
def test_members_have_the_bits_that_torch_gives_each_alone(
    shape: tuple[int, int, int], dtype: torch.dtype, smoothed: bool
) -> None:
    members, count, classes = shape
    z = (torch.randn(shape, generator=DRAW) * 4).to(dtype)
    target = torch.randint(0, classes, (members, count), generator=DRAW)
    shares = torch.linspace(0.0, 0.9, members, dtype=dtype) if smoothed else None
    given = None if shares is None else shares.repeat_interleave(count)
    losses, slopes = with_slopes(z.flatten(0, 1), target.flatten(), count, given)
    each = zip(z, target, [0.0] * members if shares is None else shares.tolist(), strict=True)
    theirs = [alone(*one) for one in each]
    assert torch.equal(slopes.view(shape), torch.stack([slope for _, slope in theirs]))
    value = torch.stack([loss for loss, _ in theirs])
    if smoothed:
        torch.testing.assert_close(losses, value)
    else:
        assert torch.equal(losses, value)
