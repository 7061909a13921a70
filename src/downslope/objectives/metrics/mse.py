"""Mean squared error and its root."""

from __future__ import annotations

import math

from torch import Tensor

from downslope.objectives.metrics.metric import aligned, metric


@metric(goal="min")
def mse(output: Tensor, target: Tensor) -> float:
    """Mean of ``(output - target)**2`` over all entries, in the squared unit of the target.

    Equivalent to `sklearn.metrics.mean_squared_error`; computed in float64.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A number in [0, inf).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = aligned(output, target, "mse")
    return (output - target).square().mean().item()


@metric(goal="min")
def rmse(output: Tensor, target: Tensor) -> float:
    """The square root of `mse`, in the unit of the target."""
    return math.sqrt(mse(output, target))
