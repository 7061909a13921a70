"""Likelihoods of what is already a probability: for models that end in a softmax or a sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from downslope.objectives.cross_entropy import in_range, indexed, several, shares
from downslope.objectives.objective import (
    Reduction,
    align,
    apart,
    as_real,
    objective,
    over_examples,
    tensors,
    wide,
)


@objective(
    expects="probabilities",
    target="class",
    surrogate_for="classification error",
    sum_over="classes",
    likelihood="a categorical variable",
)
def categorical(output: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``-log p_y`` over examples, for an output that is a softmax already.

    With p = softmax(z) its gradient by z is that of the cross-entropy on z, ``p - q``, so a model that ends
    in a softmax trains as it should and still hands out probabilities. The logarithm is taken of p plus the
    smallest normal number, so a p of 0 costs 87 nats in float32 instead of infinity.

    Args:
        output: probabilities over classes, shape (n, C), (n, C, ...) or (n, L, C).
        target: class indices, or probabilities in the output's shape.
        reduction: "mean", or "none", the share of each example in that mean.

    Returns:
        A scalar, in nats; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes do not fit.
    """
    output, target = tensors(output, target, "categorical")
    several(output, "categorical", "probability", "bernoulli")
    output = wide(output)
    if output.shape == target.shape:
        losses = -(as_real(target, output) * _log(output)).sum(1)
        return over_examples(losses) if apart(reduction) else losses.mean()
    output, target = indexed(output, target, "categorical")
    with in_range(output, "categorical"):
        if apart(reduction):
            return shares(functional.nll_loss(_log(output), target, reduction="none"), target)
        return functional.nll_loss(_log(output), target)


@objective(
    expects="probability",
    target="binary",
    surrogate_for="binary classification error",
    likelihood="a Bernoulli variable",
)
def bernoulli(output: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Mean of ``-y log p - (1 - y) log(1 - p)`` over all entries, for an output that is a probability.

    Equivalent to `torch.nn.BCELoss`, except that nothing is broadcast.

    Args:
        output: probabilities, shape (n,), (n, 1) or (n, k).
        target: 0 or 1 (or a probability), of any dtype, the same shape, or (n,) for (n, 1) and the reverse.
        reduction: "mean" over all entries, or "none", the mean of each example.

    Returns:
        A scalar, in nats; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes differ.
    """
    output, target = align(output, target, "bernoulli")
    output, target = wide(output), as_real(target, output)
    if apart(reduction):
        return over_examples(functional.binary_cross_entropy(output, target, reduction="none"))
    return functional.binary_cross_entropy(output, target)


def _log(p: Tensor) -> Tensor:
    return (p + torch.finfo(p.dtype).tiny).log()
