"""Huber's error: squared near zero, absolute far from it (Huber 1964, Annals of Mathematical Statistics)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.core.errors import ObjectiveError
from downslope.objectives.objective import Reduction, align, apart, as_real, objective, over_examples, wide


@objective(
    expects="real",
    target="real",
    surrogate_for="absolute error, made differentiable at zero",
    likelihood="Huber's least favourable distribution",
)
def huber(output: Tensor, target: Tensor, delta: float = 1.0, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``e**2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``; e = output - target.

    Equivalent to `torch.nn.HuberLoss`, except that nothing is broadcast; at the default `delta` also to
    `torch.nn.SmoothL1Loss`.

    Args:
        output: real, shape (n,), (n, 1) or (n, k).
        target: real or whole numbers, the same shape, or (n,) for (n, 1) and the reverse.
        delta: float in (0, inf), in the unit of the target; errors beyond it count as outliers.
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes differ, or `delta` is not positive.
    """
    if not delta > 0:
        raise ObjectiveError(f"huber: delta={delta}: must be positive, the error where the loss turns linear")
    output, target = align(output, target, "huber")
    output, target = wide(output), as_real(target, output)
    if apart(reduction):
        return over_examples(functional.huber_loss(output, target, delta=delta, reduction="none"))
    return functional.huber_loss(output, target, delta=delta)
