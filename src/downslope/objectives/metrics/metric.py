"""What makes a function a metric: a goal, and outputs and targets in a form it can compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from downslope.core.class_targets import IGNORED
from downslope.core.errors import ObjectiveError
from downslope.objectives.objective import align, class_axis, is_index, shape_of, tensors

Goal = Literal["max", "min"]
F = TypeVar("F", bound=Callable[..., float])

Shares = Callable[..., Tensor]
"""``(output, target) -> shares``, shape (n,): what each example contributes to a metric, which is their mean.

Of a metric that is no plain mean it is so to first order (its influence function), so that in any case
``std(shares) / sqrt(n)`` is the standard error (Hampel 1974, J. Am. Stat. Assoc. 69)."""


def metric(
    *, goal: Goal, least: float = 0.0, most: float = math.inf, shares: Shares | None = None
) -> Callable[[F], F]:
    """Mark a function as a metric.

    Args:
        goal: whether more or less of it is better, kept as ``.goal``.
        least: the smallest value that it can have; both are kept as ``.bounds``.
        most: the largest.
        shares: what each example contributes, kept as ``.shares``; None where that is not known.
    """

    def mark(function: F) -> F:
        function.__dict__.update(goal=goal, bounds=(least, most), shares=shares, takes_tensor=True)
        return function

    return mark


class Labels(NamedTuple):
    """Predictions and truths in one form."""

    predicted: Tensor
    """Integers: class indices, shape (m,); or 0 and 1, shape (n,) or (n, k)."""
    truth: Tensor
    """The same shape as `predicted`."""
    finite: Tensor
    """Whether the scores behind a prediction hold no NaN; where they do, the prediction is wrong."""
    classes: int
    """How many classes the output can name; 2 for yes or no."""


def aligned(output: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both in one shape and in float64, without gradient; ObjectiveError where the shapes differ."""
    output, target = align(output, target, name, "metric")
    return output.detach().double(), target.detach().double()


def one_hot(target: Tensor) -> bool:
    """Whether every row along the last axis is one 1 and zeros, or at least probabilities over classes."""
    rows = target.double()
    return bool(((rows >= 0).all() & ((rows.sum(-1) - 1).abs() < 1e-4).all()).item())


def zero_or_one(target: Tensor, name: str) -> Tensor:
    """The target as 0 and 1; -1 and 1 are taken for them.

    Raises:
        ObjectiveError: any other value.
    """
    truth = target.double()
    yes = truth == 1
    low = 0.0 if bool((yes | (truth == 0)).all()) else -1.0
    if not bool((yes | (truth == low)).all()):
        some = sorted({value.item() for value in truth.flatten()[:4096]})[:4]
        raise ObjectiveError(
            f"{name}: one output an example needs targets 0 and 1 (or -1 and 1), and they hold "
            f"{', '.join(f'{value:g}' for value in some)}...; give one output per class, or a metric for "
            "regression such as 'r2'"
        )
    return yes.long()


def default_threshold(output: Tensor) -> float:
    """0.5 for outputs that all lie in [0, 1], as probabilities do; else 0, which is the logit of 0.5."""
    return 0.5 if bool(((output >= 0) & (output <= 1)).all()) else 0.0


def labels(output: Tensor, target: Tensor, name: str, threshold: float | None = None) -> Labels:
    """Predicted and true labels, whatever the form of output and target.

    Forms, tried in this order: class scores against class indices (the classes on axis 1 or last); class
    indices against class indices; class scores against one-hot rows or probabilities; one score (or several
    independent ones) against 0 and 1.

    Args:
        output: scores or predicted labels.
        target: labels.
        name: the metric, for messages.
        threshold: what a score must exceed for a yes; a given one makes every output a yes or no.

    Returns:
        Labels in one form.

    Raises:
        ObjectiveError: the shapes or the values of the target fit none of the forms.
    """
    output, target = tensors(output, target, name, "metric")
    output, target = output.detach(), target.detach()
    several = output.ndim >= 2 and output.shape[-1] > 1
    if several and target.shape == (*output.shape[:-1], 1):
        target = target.squeeze(-1)
    if several and target.shape != output.shape:
        return _indexed(output, target, name)
    output, target = align(output, target, name, "metric")
    if is_index(output) and is_index(target):
        truth = target.flatten()
        count = 1 + int(torch.maximum(output.max(), truth.max()).item())
        return Labels(output.flatten().long(), truth.long(), torch.ones_like(truth, dtype=torch.bool), count)
    if several and threshold is None and one_hot(target):
        finite = ~output.isnan().any(-1)
        return Labels(
            output.argmax(-1).flatten(), target.argmax(-1).flatten(), finite.flatten(), output.shape[-1]
        )
    cut = default_threshold(output) if threshold is None else threshold
    return Labels((output > cut).long(), zero_or_one(target, name), ~output.isnan(), 2)


def _indexed(output: Tensor, target: Tensor, name: str) -> Labels:
    if target.is_floating_point() and not bool((target == target.round()).all()):
        raise ObjectiveError(
            f"{name}: output {shape_of(output)} names classes, and the target {shape_of(target)} holds "
            "fractions; give class indices, or a metric for regression such as 'r2'"
        )
    axis = class_axis(output, target, name)
    truth = target.flatten().long()
    counts = truth != IGNORED
    predicted = output.argmax(axis).flatten()[counts]
    finite = ~output.isnan().any(axis).flatten()[counts]
    if not predicted.numel():
        raise ObjectiveError(f"{name}: every target is {IGNORED}, which does not count")
    return Labels(predicted, truth[counts], finite, output.shape[axis])
