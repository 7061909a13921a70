"""Whether an objective compares every output with every target: torch broadcasts (n, 1) against (n,)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

DIFFERENT = 1e-3
"""Relative difference of the loss on aligned shapes from which another thing was computed."""

NEARLY = 0.01
"""Relative difference that the shape makes below which a first output does not tell the two apart."""


Value = Callable[[Tensor, Tensor, Tensor | None], Any]
"""``(output, target, rows)`` to the objective; ``rows`` says which examples they are, None for all."""


def aligned(value: Value, output: Tensor, target: Any) -> dict[str, float]:
    """``value`` and ``aligned``: the objective with output and target as they are, and in one shape.

    A first output is nearly the same for every example, and so is its loss in either shape: what tells them
    apart is an output that goes with the target, halfway from its mean. An objective that brings them into
    one shape by itself adds up its examples, and nothing is to be aligned.

    Args:
        value: The objective.
        output: Of the model, (n, ...).
        target: What it is compared with.

    Returns:
        Both numbers; nothing where the shapes are the same or differ by more than an axis of length 1.
    """
    if not isinstance(target, Tensor) or output.shape == target.shape or output.numel() != target.numel():
        return {}
    if (*target.shape, 1) != output.shape and (*output.shape, 1) != target.shape:
        return {}
    found: dict[str, float] = {}
    aim = target.to(output.dtype).reshape(output.shape)
    for made in (output, 0.5 * (aim + aim.mean(0))):
        with suppress(Exception):  # an objective may insist on its own shapes
            own = float(value(made, target, None))
            other = float(value(made.reshape(target.shape), target, None))
            if not (math.isfinite(own) and math.isfinite(other)):
                continue
            apart = abs(own - other) > NEARLY * abs(other)
            if apart or not found:
                found = {"value": own, "aligned": other}
            if apart:
                break
    if difference(found) is not None and _by_pairs(value, 0.7 * aim + 0.3 * aim.mean(0), target):
        return found | {"aligned": found["value"]}
    return found


def _by_pairs(value: Value, output: Tensor, target: Tensor) -> bool:
    """Whether the objective of two examples is the mean, or the sum, of those of each.

    At an output halfway to the targets the mean of all four absolute errors is the sum of the right two.
    """
    if len(target) != target.numel():
        return False
    flat = target.flatten()
    rows = torch.stack([flat.argmin(), flat.argmax()])
    with suppress(Exception):
        both, first, second = (
            float(value(output[some], target[some], some)) for some in (rows, rows[:1], rows[1:])
        )
        size = abs(first) + abs(second)
        if bool(flat[rows[0]] != flat[rows[1]]) and size > 0:
            return min(abs(both - first - second), abs(2 * both - first - second)) <= DIFFERENT * size
    return False


def difference(objective: Mapping[str, Any]) -> float | None:
    """Relative difference that aligned shapes make to the loss; None where the shapes fit.

    Args:
        objective: What `aligned` gave, or the fact ``objective``.
    """
    value, other = objective.get("value"), objective.get("aligned")
    if value is None or other is None or not math.isfinite(value) or not math.isfinite(other):
        return None
    apart = abs(value - other) / max(abs(other), 1e-12)
    return apart if apart > DIFFERENT else None
