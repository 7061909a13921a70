"""Absolute error: the negative log-likelihood of a Laplace distribution, up to scale and constant."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import Reduction, align, apart, as_real, objective, over_examples, wide


@objective(expects="real", target="real", likelihood="a Laplace distribution")
def absolute_error(output: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``|output - target|`` over all entries; the best constant is the median of the targets.

    Equivalent to `torch.nn.L1Loss`, except that nothing is broadcast. Its gradient keeps its size until the
    error changes sign, so a constant learning rate ends in a zigzag of that size.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: real or whole numbers, the same shape, or (n,) for (n, 1) and the reverse.
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "absolute_error")
    output, target = wide(output), as_real(target, output)
    if apart(reduction):
        return over_examples(functional.l1_loss(output, target, reduction="none"))
    return functional.l1_loss(output, target)
