"""Mean squared error and its root."""

from __future__ import annotations

import math

from torch import Tensor

from downslope.objectives.metrics.metric import aligned, metric
from downslope.objectives.objective import over_examples


def squares(output: Tensor, target: Tensor) -> Tensor:
    """The squared error of each example, float64, shape (n,)."""
    output, target = aligned(output, target, "mse")
    return over_examples((output - target).square())


def _roots(output: Tensor, target: Tensor) -> Tensor:
    """``r + (e_i**2 - r**2) / (2 r)``, r the root of the mean."""
    each = squares(output, target)
    root = each.mean().sqrt()
    return root + (each - each.mean()) / (2 * root)


@metric(goal="min", shares=squares)
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


@metric(goal="min", shares=_roots)
def rmse(output: Tensor, target: Tensor) -> float:
    """The square root of `mse`, in the unit of the target."""
    return math.sqrt(mse(output, target))
