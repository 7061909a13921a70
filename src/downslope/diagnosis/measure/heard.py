"""What the objective of somebody's own loop does with an output and a target that went through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

ROWS = 64
"""Examples on which the objective is called."""

NEARLY = 0.01
"""Relative difference that the shape makes below which a first output does not tell the two apart."""


def measure(function: Callable[..., Tensor], output: Tensor, target: Tensor) -> dict[str, Any]:
    """Put the objective to the question on the first batch that it was heard with.

    Args:
        function: ``(output, target) -> scalar``.
        output: Of the model, (n, ...).
        target: What it was compared with, (n, ...).

    Returns:
        ``value``, ``aligned``, ``growth`` and ``gradient``, as `measure.objective` gives them, and
        ``watched``: what takes a model, or another output than this one, was not asked. A ``gradient`` of
        zero is left out: at one output alone it says nothing.
    """
    made, target = output.detach()[:ROWS], target.detach()[:ROWS]
    free = made.clone().requires_grad_()
    value = function(free, target)
    found: dict[str, Any] = {"value": float(value.detach()), "watched": True, "growth": None, "aligned": None}
    slope = torch.autograd.grad(value, free)[0] if value.requires_grad else None
    if slope is not None and bool(slope.any()):
        found["gradient"] = float(slope.double().square().mean().sqrt())
    with suppress(Exception):  # an objective may know its batch size, or insist on its own shapes
        double = float(function(torch.cat([made, made]), torch.cat([target, target])))
        if found["value"] and math.isfinite(found["value"]) and math.isfinite(double):
            found["growth"] = double / found["value"]
    return found | _aligned(function, made, target)


def _aligned(function: Callable[..., Tensor], made: Tensor, target: Tensor) -> dict[str, float]:
    """The values with output and target as they are and in one shape; none where the shapes are far apart.

    Where the first outputs are small beside the targets, their loss is nearly the same in either shape: what
    tells them apart is an output that goes with the target, halfway from its mean.
    """
    shapes = (tuple(made.shape), tuple(target.shape))
    if shapes[0] not in ((*shapes[1], 1), shapes[1][:-1]) or made.numel() != target.numel():
        return {}
    found: dict[str, float] = {}
    aim = target.to(made.dtype).reshape(made.shape)
    with suppress(Exception):  # an objective may insist on its own shapes
        for each in (made, 0.5 * (aim + aim.mean(0))):
            pair = float(function(each, target)), float(function(each.reshape(target.shape), target))
            if not all(map(math.isfinite, pair)):
                continue
            apart = abs(pair[0] - pair[1]) > NEARLY * abs(pair[1])
            if apart or not found:
                found = {"value": pair[0], "aligned": pair[1]}
            if apart:
                break
    return found
