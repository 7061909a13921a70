"""Losses that were asked for one by one and summed up by the script, each with a weight: masks, rare classes.

The weight of each is its derivative, read off the few nodes between the losses and their sum. Where it hangs
on the target alone, the objective is known, and so is what a constant guess costs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core.history import Floats
from downslope.diagnosis.ear import Call, bound
from downslope.objectives.meaning import meaning

ALIKE = 1e-3
"""Relative difference up to which two weights are one, in float32 and after a few operations. Convention."""

VALUES = 1000
"""Different targets, at most, whose weights are kept."""


def weighed(loss: Tensor, call: Call) -> Call | None:
    """The call as `loss` sums it up; None for a plain sum, which is no mean of any kind.

    Args:
        loss: A scalar made of the call's losses by products with constants, sums and means.
        call: Of a loss function that gave one loss for each entry, or their sum.

    Returns:
        A plain mean, or a multiple of it, as the call with that mean as its value; else the call with
        ``weights`` of the shape of its value, NaN where they cannot be read.
    """
    if call.value.numel() == 1:
        return _averaged(loss, call)
    function, told = bound(call), float(loss.detach())
    if function is None or not math.isfinite(told):
        return call
    mean = _mean(call, function)
    if abs(told - float(mean)) <= ALIKE * abs(float(mean)):
        return call._replace(value=mean)
    weights = _derivative(loss, call.value)
    if weights is None:
        return call._replace(weights=torch.full_like(call.value.detach(), torch.nan))
    weights = _counted(weights, call)
    first, n = float(weights.flatten()[0]), weights.numel()
    if float((weights - first).abs().max()) > ALIKE * abs(first):
        return call._replace(weights=weights)
    return None if n > 1 and abs(first - 1.0) <= ALIKE else call._replace(value=mean)


def _averaged(loss: Tensor, call: Call) -> Call:
    """A sum over the batch that the script divides by its examples, or more, as the mean that it is then."""
    if call.kwargs.get("reduction") != "sum" or not call.args[1].dim():
        return call
    mean = call._replace(kwargs={**call.kwargs, "reduction": "mean"})
    function, total = bound(mean), float(call.value.detach())
    share = float(loss.detach()) / total if total else math.nan
    if function is None or not share * len(call.args[1]) <= 1.0 + ALIKE:
        return call
    with torch.no_grad():
        return mean._replace(value=function(call.args[0].detach(), call.args[1]))


def _mean(call: Call, function: functools.partial[Tensor]) -> Tensor:
    """What `function` would give as a mean: of the losses that are there, unless it weighs the classes."""
    value, target = call.value.detach(), call.args[1]
    if function.keywords.get("weight") is not None or not value.numel():
        with torch.no_grad():
            return function(call.args[0].detach(), target)
    classes = target.shape == value.shape and not target.is_floating_point()
    left = call.kwargs.get("ignore_index", -100)
    return value.sum() / (int((target != left).sum()) if classes else value.numel())


def _counted(weights: Tensor, call: Call) -> Tensor:
    """None for the classes that the function leaves out by itself."""
    left = call.kwargs.get("ignore_index", -100)
    target = call.args[1]
    if target.shape != weights.shape or target.is_floating_point():
        return weights
    return weights.masked_fill(target == left, 0.0)


def _derivative(loss: Tensor, value: Tensor) -> Tensor | None:
    """Of `loss` by each entry of `value`, if it is linear in them."""
    if value.grad_fn is None or value._backward_hooks or not value.numel():  # pyright: ignore[reportPrivateUsage]
        return None
    try:
        (found,) = torch.autograd.grad(loss, value, retain_graph=True)
    except RuntimeError:  # its backward pass has run
        return None
    given, told = found.detach(), float(loss.detach())
    summed = float(torch.where(given == 0, 0.0, given * value.detach()).double().sum())
    return given if abs(summed - told) <= ALIKE * abs(told) else None


class Weights:
    """What the losses of each target weighed, over the batches that were heard.

    Attributes:
        heard: Whether any weights were.
    """

    def __init__(self) -> None:
        self.heard = False
        self._sound = True
        self._shared: bool | None = None
        self._of: dict[float, float] = {}

    def take(self, weights: Tensor, target: Tensor) -> None:
        """Those of a batch.

        Args:
            weights: Derivatives of the loss, of the shape of `target`; of another shape they hang on
                something else.
            target: Classes, or numbers, one for each loss.
        """
        self.heard = True
        if not self._sound:
            return
        self._sound = weights.shape == target.shape and bool(torch.isfinite(weights).all())
        numbers = [each.detach().flatten().double().cpu().numpy() for each in (weights, target)]
        self._sound = self._sound and self._known(*numbers)

    def _known(self, weights: Floats, target: Floats) -> bool:
        """Whether each target weighs what it did."""
        shared = abs(float(weights.sum()) - 1.0) <= ALIKE  # divided by the sum of the weights
        if self._shared is None:
            self._shared = shared
        values, first, place = np.unique(target, return_index=True, return_inverse=True)
        if shared != self._shared or len(values) + len(self._of) > VALUES:
            return False
        found = weights[first] * (1 if shared else len(weights))
        if np.abs(weights - weights[first][place]).max() > ALIKE * np.abs(weights).max():
            return False
        before = np.array([self._of.get(float(each), np.nan) for each in values])
        common = np.flatnonzero(np.nan_to_num(before))
        if shared and self._of:  # only their ratios are the same in every batch
            if not len(common) or not found[common[0]]:
                return False
            found = found * before[common[0]] / found[common[0]]
        size = max(np.abs(found).max(), np.nanmax(np.abs([*before, 0.0])))
        if np.nanmax(np.abs([*(before - found), 0.0])) > 2 * ALIKE * size:
            return False
        self._of = {float(v): float(w) for v, w in zip(values, found, strict=True)} | self._of
        return True

    def of(self, function: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor] | None:
        """`function` with these weights; itself where none was heard, None where they are not known."""
        if not self.heard:
            return function
        if not self._sound or not isinstance(function, functools.partial):
            return None
        each = functools.partial(cast("functools.partial[Tensor]", function), reduction="none")

        def summed(output: Tensor, target: Tensor) -> Tensor:
            given = each(output, target)
            values, place = target.unique(return_inverse=True)
            known = given.new_tensor([self._of[value] for value in values.double().tolist()])[place]
            total = (given * known).sum()
            return total / known.sum() if self._shared else total / known.numel()

        said = meaning(each)
        marked: Any = summed
        marked.expects, marked.target, marked.reduction, marked.__name__ = *said[:2], "mean", said.name
        return summed
