"""Logistic loss: the negative log-likelihood of a Bernoulli variable, from its logit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from downslope.objectives.class_weights import Weights, as_weights
from downslope.objectives.objective import Reduction, align, apart, as_real, objective, over_examples, wide


@objective(
    expects="logit",
    target="binary",
    surrogate_for="binary classification error",
    likelihood="a Bernoulli variable",
)
def logistic(
    output: Tensor,
    target: Tensor,
    *,
    pos_weight: Weights | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean of ``log(1 + exp(z)) - y z`` over all entries, z the output and y the target.

    With `pos_weight` p the mean of ``(1 - y) z + (1 + (p - 1) y) log(1 + exp(-z))``: a yes counts p times.

    Computed from logits, so it neither overflows nor rounds to infinity where `torch.nn.BCELoss` on a
    sigmoid does. Equivalent to `torch.nn.BCEWithLogitsLoss`, except that nothing is broadcast. With several
    columns each is a yes-or-no question of its own (multi-label).

    Args:
        output: logits, any real number, shape (n,), (n, 1) or (n, k).
        target: 0 or 1 (or a probability), of any dtype, the same shape, or (n,) for (n, 1) and the reverse.
        pos_weight: a number in (0, inf) or one for each of k columns; negatives / positives balances them.
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar, in nats; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "logistic")
    output, target = wide(output), as_real(target, output)
    weight = None if pos_weight is None else as_weights(pos_weight, output, "logistic", "pos_weight")
    if apart(reduction):
        return over_examples(
            functional.binary_cross_entropy_with_logits(output, target, pos_weight=weight, reduction="none")
        )
    return functional.binary_cross_entropy_with_logits(output, target, pos_weight=weight)
