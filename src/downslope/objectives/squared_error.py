"""Squared error: the negative log-likelihood of a Gaussian, up to scale and constant."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import Reduction, align, apart, as_real, objective, over_examples, wide


@objective(expects="real", target="real", likelihood="a Gaussian")
def squared_error(output: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``(output - target)**2`` over all entries; the best constant is the mean of the targets.

    Equivalent to `torch.nn.MSELoss`, except that nothing is broadcast. Differs from half the squared error
    of many textbooks by the factor 2, and so does every stable learning rate.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: real or whole numbers, the same shape, or (n,) for (n, 1) and the reverse.
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "squared_error")
    output, target = wide(output), as_real(target, output)
    if apart(reduction):
        return over_examples(functional.mse_loss(output, target, reduction="none"))
    return functional.mse_loss(output, target)
