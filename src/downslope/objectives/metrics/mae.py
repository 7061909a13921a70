"""Mean absolute error."""

from __future__ import annotations

from torch import Tensor

from downslope.objectives.metrics.metric import aligned, metric
from downslope.objectives.objective import over_examples


def distances(output: Tensor, target: Tensor) -> Tensor:
    """The absolute error of each example, float64, shape (n,)."""
    output, target = aligned(output, target, "mae")
    return over_examples((output - target).abs())


@metric(goal="min", shares=distances)
def mae(output: Tensor, target: Tensor) -> float:
    """Mean of ``|output - target|`` over all entries, in the unit of the target.

    Equivalent to `sklearn.metrics.mean_absolute_error`; computed in float64.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A number in [0, inf).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = aligned(output, target, "mae")
    return (output - target).abs().mean().item()
