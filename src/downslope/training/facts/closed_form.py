"""The best constant output where a formula gives it: means, medians, signs and shares of the targets.

    squared error          the mean of the targets
    absolute error         a median of them
    likelihoods of 0 or 1  the log-odds of the share of ones
    likelihoods of classes the logarithms of the shares of the classes
    hinge, two signs       the sign of the majority; with classes that of Crammer and Singer (2001): 1 for a
                           class that more than half of the examples have, else 0 for all (Liu 2007, Fisher
                           consistency of multicategory support vector machines)

The formulas are for the objective as it is named. Whether it is weighted or smoothed is not read off but
tried: a point counts only where the objective itself has no slope worth the name.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MEAN = ("squared_error", "mse_loss", "MSELoss")
MEDIAN = ("absolute_error", "l1_loss", "L1Loss")
LIKELIHOOD = (
    "cross_entropy", "CrossEntropyLoss", "categorical", "nll_loss", "NLLLoss", "logistic", "bernoulli",
    "binary_cross_entropy_with_logits", "BCEWithLogitsLoss", "binary_cross_entropy", "BCELoss",
)  # fmt: skip

LEAST_SHARE = 1e-6
"""Share that a class counts with which no example has: its log-odds are none."""

NEAR = 1e-5
"""Distance from the lowest point, in the size of the targets, up to which one counts as it."""

Value = Callable[[Tensor], Tensor]


def closed_form(name: str, expects: str | None, like: Tensor, target: object) -> Tensor | None:
    """The free numbers behind the best constant: the output itself, or the scores of a probability.

    Args:
        name: Of the objective, as `downslope.objectives.meaning` says it.
        expects: What the objective expects of the output.
        like: One example's output.
        target: Of all examples.

    Returns:
        A tensor of the shape of `like`; None where no formula is known.
    """
    if not isinstance(target, Tensor) or not len(target) or target.is_complex():
        return None
    if expects in ("logits", "probabilities", "log-probabilities"):
        return _shares(like, target)
    if name == "hinge" and like.dim() == 1 and len(like) > 1 and target.numel() == len(target):
        return _crammer_singer(like, target)
    if target.numel() != len(target) * like.numel():
        return None
    rows = target.double().reshape(len(target), -1)
    if expects in ("logit", "probability"):
        share = rows.mean(0)
        found = torch.logit(share, eps=LEAST_SHARE) if bool(((share >= 0) & (share <= 1)).all()) else None
    elif expects == "sign":
        found = torch.where((rows > 0).double().mean(0) > 0.5, 1.0, -1.0) if name == "hinge" else None
    elif expects == "real" and name in MEAN:
        found = rows.mean(0)
    else:
        found = rows.median(0).values if expects == "real" and name in MEDIAN else None
    return None if found is None else found.to(like.dtype).reshape(like.shape)


def holds(value: Value, free: Tensor, name: str, target: Tensor) -> bool:
    """Whether the objective has its lowest point where the formula for `name` says.

    Args:
        value: The objective of free numbers.
        free: What `closed_form` gave.
        name: As it was given there.
        target: As it was given there.
    """
    loss, slope = _slope(value, free)
    if slope is None or not bool(torch.isfinite(loss)) or not bool(torch.isfinite(slope).all()):
        return False
    if name == "hinge":
        return all(float(value(scale * free)) >= float(loss) for scale in (0.99, 1.01))
    if name in MEDIAN:  # at the median of n numbers the slope is that of the ones that lie exactly there
        rows = target.reshape(len(target), -1)
        ties = (rows == free.reshape(-1)).sum(0)
        return bool((slope.reshape(-1).abs() * rows.numel() <= ties + 0.5).all())
    if name not in (*MEAN, *LIKELIHOOD):
        return False
    size = 2 * float(target.abs().max()) / free.numel() if name in MEAN else 1.0
    return float(slope.abs().max()) <= NEAR * max(size, torch.finfo(free.dtype).tiny)


def _slope(value: Value, free: Tensor) -> tuple[Tensor, Tensor | None]:
    at = free.clone(memory_format=torch.contiguous_format).requires_grad_()
    loss = value(at)
    if not loss.requires_grad:
        return loss, None
    return loss.detach(), torch.autograd.grad(loss, at)[0]


def _shares(like: Tensor, target: Tensor) -> Tensor | None:
    """Logarithms of the classes' shares, at every place of the output by itself."""
    target = target.squeeze(1) if target.dim() == 2 and target.shape[1] == 1 and like.dim() == 1 else target
    if target.is_floating_point() or target.dtype == torch.bool or not like.dim():
        return None
    places = target.shape[1:]
    axis = 0 if places == like.shape[1:] else like.dim() - 1
    if axis and places != like.shape[:-1]:
        return None
    classes, columns = like.shape[axis], target.long().reshape(len(target), -1)
    counted = columns >= 0
    if int(columns.max()) >= classes:
        return None
    index = torch.arange(columns.shape[1]).expand_as(columns) * classes + columns
    counts = torch.bincount(index[counted], minlength=columns.shape[1] * classes).reshape(-1, classes)
    shares = counts / counts.sum(1, keepdim=True).clamp_min(1)
    logs = shares.clamp_min(LEAST_SHARE).log().to(like.dtype)  # (places, classes)
    return logs.T.reshape(like.shape) if axis == 0 else logs.reshape(like.shape)


def _crammer_singer(like: Tensor, target: Tensor) -> Tensor | None:
    if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= len(like):
        return None
    counts = torch.bincount(target.reshape(-1).long(), minlength=len(like))
    found = torch.zeros_like(like)
    if 2 * int(counts.max()) > len(target):
        found[counts.argmax()] = 1.0
    return found
