"""Squared error: the negative log-likelihood of a Gaussian, up to scale and constant."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import align, as_real, objective


@objective(expects="real", target="real")
def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean of ``(output - target)**2`` over all entries; the best constant is the mean of the targets.

    Equivalent to `torch.nn.MSELoss`, except that nothing is broadcast. Differs from half the squared error
    of many textbooks by the factor 2, and so does every stable learning rate.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: real or whole numbers, the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A scalar.

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "squared_error")
    return functional.mse_loss(output, as_real(target, output))
