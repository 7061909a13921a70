"""What the objective of somebody's own loop does with an output and a target that went through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from downslope.training.facts.aligned import aligned

ROWS = 64
"""Examples on which the objective is called."""


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
    return found | aligned(lambda some, its, _: function(some, its), made, target)
