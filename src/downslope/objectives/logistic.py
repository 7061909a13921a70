"""Logistic loss: the negative log-likelihood of a Bernoulli variable, from its logit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import align, as_real, objective


@objective(expects="logit", target="binary", surrogate_for="binary classification error")
def logistic(output: Tensor, target: Tensor) -> Tensor:
    """Mean of ``log(1 + exp(z)) - y z`` over all entries, z the output and y the target.

    Computed from logits, so it neither overflows nor rounds to infinity where `torch.nn.BCELoss` on a
    sigmoid does. Equivalent to `torch.nn.BCEWithLogitsLoss`, except that nothing is broadcast. With several
    columns each is a yes-or-no question of its own (multi-label).

    Args:
        output: logits, any real number, shape (n,), (n, 1) or (n, k).
        target: 0 or 1 (or a probability), of any dtype, the same shape, or (n,) for (n, 1) and the reverse.

    Returns:
        A scalar, in nats.

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "logistic")
    return functional.binary_cross_entropy_with_logits(output, as_real(target, output))
