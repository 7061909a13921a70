"""Softmax cross-entropy: the negative log-likelihood of a class, from unnormalised scores."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn import functional

from downslope.core.class_targets import IGNORED
from downslope.core.errors import ObjectiveError
from downslope.objectives.class_weights import Weights, as_weights
from downslope.objectives.objective import (
    Reduction,
    apart,
    as_real,
    class_axis,
    is_index,
    objective,
    of_ratio,
    over_examples,
    shape_of,
    tensors,
    wide,
)


@objective(
    expects="logits",
    target="class",
    surrogate_for="classification error",
    sum_over="classes",
    likelihood="a categorical variable",
)
def cross_entropy(
    output: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    weight: Weights | None = None,
    ignore_index: int = IGNORED,
    reduction: Reduction = "mean",
) -> Tensor:
    """Mean of ``log(sum_c exp(z_c)) - z_y`` over examples, or of ``-sum_c q_c log softmax(z)_c``.

    Equivalent to `torch.nn.CrossEntropyLoss`, and takes three targets more: (n, 1) class indices, one-hot
    rows of whole numbers, and (n, L) indices for an output (n, L, C). Entries equal to -100 do not count.

    Args:
        output: logits, shape (n, C), (n, C, ...) or (n, L, C); no softmax before.
        target: class indices in [0, C) of any integer dtype, or probabilities in the output's shape.
        label_smoothing: float in [0, 1], the share of the target spread evenly over the classes.
        weight: C numbers in [0, inf), a factor for each class; of class indices the mean is weighted by it.
        ignore_index: a class index that does not count, besides -100; metrics leave it out too.
        reduction: "mean", or "none", the share of each example in that mean.

    Returns:
        A scalar, in nats; with "none" shape (n,).

    Raises:
        ObjectiveError: the shapes do not fit, there is one class only, class indices are floating point or
            reach beyond the last class.
    """
    output, target = tensors(output, target, "cross_entropy")
    several(output, "cross_entropy", "softmax", "logistic")
    output = wide(output)
    soft = output.shape == target.shape
    if soft:
        target = as_real(target, output)
    else:
        output, target = indexed(output, target, "cross_entropy")
        if ignore_index != IGNORED:
            target = torch.where(target == int(ignore_index), IGNORED, target)
    factor = (
        None if weight is None else as_weights(weight, output, "cross_entropy", "weight", output.shape[1])
    )
    loss = functools.partial(
        functional.cross_entropy, output, target, weight=factor, label_smoothing=label_smoothing
    )
    with in_range(output, "cross_entropy"):
        if not apart(reduction):
            return loss()
        losses = loss(reduction="none")
    return over_examples(losses) if soft else shares(losses, target, factor)


def shares(losses: Tensor, target: Tensor, factor: Tensor | None = None) -> Tensor:
    """What each example adds to the weighted mean: entries that do not count leave others more."""
    counted = target != IGNORED
    if factor is None and bool(counted.all()):
        return over_examples(losses)
    weights = counted.to(losses.dtype) if factor is None else factor[target.clamp(min=0)] * counted
    if losses.ndim > 1:
        losses, weights = losses.flatten(1).sum(1), weights.flatten(1).sum(1)
    return of_ratio(losses, weights)


def several(output: Tensor, name: str, form: str, instead: str) -> None:
    """Refuse an output of one entry an example, over which any `form` is 1; `instead` fits a yes or no."""
    if output.ndim < 2 or output.numel() == len(output):
        raise ObjectiveError(
            f"{name}: output {shape_of(output)} has one entry an example, and a {form} over it is always 1; "
            f"use {instead!r} for a yes-or-no target, or one output per class"
        )


@contextlib.contextmanager
def in_range(output: Tensor, name: str) -> Generator[None]:
    """Turn torch's complaint about a class index into one line (on a GPU torch aborts by itself)."""
    try:
        yield
    except IndexError as error:
        raise ObjectiveError(
            f"{name}: class index outside [0, {output.shape[1]}): {str(error).rstrip('.')}; the model "
            "needs as many outputs as there are classes, and classes count from 0"
        ) from error


def indexed(output: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both in torch's layout: classes on axis 1, and int64 indices."""
    if not is_index(target):
        raise ObjectiveError(
            f"{name}: target {shape_of(target)} is {target.dtype}: class indices must be integers and "
            f"probabilities must have the output's shape {shape_of(output)}; target.long() makes indices"
        )
    if target.ndim == output.ndim and target.shape[-1] == 1:
        target = target.squeeze(-1)
    axis = class_axis(output, target, name)
    return (output if axis == 1 else output.movedim(axis, 1)), target.long()
