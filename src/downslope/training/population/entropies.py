"""Softmax cross-entropy of many examples at once, where torch's own takes most of the time of a small step.

    l = log sum_c exp(z_c - m) - (z_y - m),    m = max_c z_c,    dl/dz = softmax(z) - onehot(y)

Torch's softmax along a last dimension of ten classes takes 150 nanoseconds a row, most of it to set up each
row; the same sums taken over the whole table take 15.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cross_entropies", "with_slopes"]


class _Entropies(torch.autograd.Function):
    """Losses of rows (N, C) with class indices (N,); `share` (N,) of the target is spread evenly."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, target: Tensor, share: Tensor | None) -> Tensor:
        """Shape (N,)."""
        z = z - z.amax(1, keepdim=True)
        powers = z.exp()
        total = powers.sum(1, keepdim=True)
        hit = target.unsqueeze(1)
        losses = total.log() - z.gather(1, hit)
        if share is not None:
            even = total.log() - z.mean(1, keepdim=True)
            losses = torch.lerp(losses, even, share.unsqueeze(1))
        ctx.save_for_backward(powers, total, hit, share)
        return losses.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """``softmax - target``, times the slopes."""
        powers, total, hit, share = ctx.saved_tensors
        slope = slopes[0].unsqueeze(1)
        found = powers * (slope / total)
        if share is None:
            return found.scatter_add_(1, hit, -slope), None, None
        spread = slope * share.unsqueeze(1)
        found.sub_(spread / found.shape[1])
        return found.scatter_add_(1, hit, spread - slope), None, None


def with_slopes(rows: Tensor, target: Tensor, share: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The cross-entropy of every row, (N,), and the gradient of their sum by `rows`, without a graph.

    Args:
        rows: Logits, (N, C).
        target: Class indices, (N,), none left out.
        share: Label smoothing of each row, (N,); none if left out.
    """
    with torch.no_grad():
        z = rows - rows.amax(1, keepdim=True)
        slopes = z.exp()
        total = slopes.sum(1, keepdim=True)
        hit, level = target.unsqueeze(1), total.log()
        losses = level - z.gather(1, hit)
        slopes.div_(total)
        if share is None:
            one = slopes.new_full((1, 1), -1.0).expand_as(hit)
        else:
            each = share.unsqueeze(1)
            losses = torch.lerp(losses, level - z.mean(1, keepdim=True), each)
            slopes.sub_(each / rows.shape[1])
            one = each - 1
        return losses.squeeze(1), slopes.scatter_add_(1, hit, one)


def cross_entropies(rows: Tensor, target: Tensor, share: Tensor | None = None) -> Tensor:
    """The cross-entropy of every entry, shape (N, ...).

    Args:
        rows: Logits, (N, C, ...).
        target: Class indices, (N, ...), none left out; or probabilities of the shape of `rows`.
        share: Label smoothing of each row, (N,); none if left out.
    """
    soft = target.is_floating_point()
    if rows.dim() == 2 and not soft and rows.device.type == "cpu":
        return _Entropies.apply(rows, target, share)
    if share is None:
        return functional.cross_entropy(rows, target, reduction="none")
    each = share.reshape(-1, *[1] * (rows.dim() - 2))
    logs = functional.log_softmax(rows, 1)
    hit = -(target * logs).sum(1) if soft else functional.nll_loss(logs, target, reduction="none")
    return (1 - each) * hit - each * logs.mean(1)
