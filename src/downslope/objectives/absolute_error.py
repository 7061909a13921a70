"""Absolute error: the negative log-likelihood of a Laplace distribution, up to scale and constant."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import align, as_real, objective


@objective(expects="real", target="real")
def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean of ``|output - target|`` over all entries; the best constant is the median of the targets.

    Equivalent to `torch.nn.L1Loss`, except that nothing is broadcast. Its gradient keeps its size until the
    error changes sign, so a constant learning rate ends in a zigzag of that size.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: real or whole numbers, the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A scalar.

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "absolute_error")
    return functional.l1_loss(output, as_real(target, output))
