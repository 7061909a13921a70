"""R2: the share of the target's variance that the output explains."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.objectives.metrics.metric import aligned, metric
from downslope.objectives.objective import of_ratio


def explained(output: Tensor, target: Tensor) -> Tensor:
    """What each example contributes, shape (n,); NaN where a column of targets is constant."""
    output, target = (each.reshape(len(each), -1) for each in aligned(output, target, "r2"))
    residual, total = (target - output).square(), (target - target.mean(0)).square()
    columns = [of_ratio(a, b) for a, b in zip(residual.unbind(1), total.unbind(1), strict=True)]
    return 1 - torch.stack(columns).mean(0)


@metric(goal="max", least=-math.inf, most=1.0, shares=explained)
def r2(output: Tensor, target: Tensor) -> float:
    """``1 - sum((y - o)**2) / sum((y - mean(y))**2)``, the plain mean over columns.

    Equivalent to `sklearn.metrics.r2_score`: 0 is what the mean of the targets reaches, and a constant
    target gives 1 if it is met exactly and else 0.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A number in (-inf, 1].

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = aligned(output, target, "r2")
    residual = (target - output).square().sum(0)
    total = (target - target.mean(0)).square().sum(0)
    constant = torch.where(residual == 0, 1.0, 0.0).to(residual.dtype)
    return torch.where(total == 0, constant, 1 - residual / total).mean().item()
