"""Which steps of a sequence tell the target by themselves: the strongest correlation of each step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

FEWEST = 48
"""Examples from which it is asked."""

COMMON = 10
"""Examples that have a symbol or a class, at least, and that do not, for it to be counted."""

CHANCE = 1e-4
"""Probability that chance alone makes any correlation count, over all steps and columns together."""

LEAST = 0.5
"""Correlation that counts, at least, and 1.5 times what chance reaches: rare symbols and classes coincide
more often than values of a bell curve. Of 720 draws of noise none came as far (96 to 320 examples)."""

MOST = 256
"""Examples that are looked at."""

WIDEST = 64
"""Symbols, features, classes or columns that are looked at."""


def measure(inputs: Tensor, target: Tensor) -> dict[str, Any] | None:
    """Correlations of what is at each step with the target; those of ranks where values are real.

    Args:
        inputs: Symbols, integers of shape (n, steps), or features, shape (n, steps, k).
        target: Classes, integers of shape (n,), or values, shape (n,) or (n, c).

    Returns:
        ``strength`` (the largest absolute correlation of each step), ``chance`` (what chance reaches) and
        ``limit`` (what counts); None for other shapes, or too few examples.
    """
    if len(inputs) != len(target):
        return None
    inputs, target = inputs[:MOST], target[:MOST]
    wanted = _columns(target)
    if len(target) < FEWEST or wanted is None:
        return None
    if inputs.dim() == 2 and not inputs.is_floating_point():
        symbols = _different(inputs)
        if not 1 < len(symbols) <= WIDEST:
            return None
        there: Tensor = torch.eq(inputs[..., None], symbols).double()
    elif inputs.dim() == 3 and inputs.is_floating_point() and inputs.shape[2] <= WIDEST:
        there = _ranks(inputs.double())
    else:
        return None
    n, steps, width = there.shape
    found = (_standard(there.reshape(n, -1)).T @ _standard(wanted)).abs() / n
    strength = found.reshape(steps, -1).amax(1)
    pairs = max(1, steps * width * wanted.shape[1])
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - CHANCE / pairs, dtype=torch.float64)))
    chance = z / math.sqrt(n)
    return {"strength": strength.tolist(), "chance": chance, "limit": min(0.95, max(LEAST, 1.5 * chance))}


def _columns(target: Tensor) -> Tensor | None:
    """Shape (n, columns): one for each class, or the ranks of values."""
    if target.is_floating_point():
        flat = target.double().reshape(len(target), -1)
        return _ranks(flat) if 0 < flat.shape[1] <= WIDEST else None
    if target.dim() != 1:
        return None
    classes = _different(target)
    return torch.eq(target[:, None], classes).double() if 1 < len(classes) <= WIDEST else None


def _different(values: Tensor) -> Tensor:
    """The values there are, some more than `WIDEST` at most."""
    found: list[int] = values.flatten().tolist()
    return torch.tensor(sorted(set(found))[: WIDEST + 1])


def _ranks(values: Tensor) -> Tensor:
    """Ranks over the examples; of few different values (0 and 1) themselves, as ties have no order."""
    return torch.where(_binary(values), values, values.argsort(0).argsort(0).double())


def _binary(values: Tensor) -> Tensor:
    low, high = values.amin(0, keepdim=True), values.amax(0, keepdim=True)
    return ((values == low) | (values == high)).all(0, keepdim=True)


def _standard(columns: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; zeros where a column is constant, or a symbol too rare."""
    ends = torch.minimum((columns == columns.amin(0)).sum(0), (columns == columns.amax(0)).sum(0))
    two = _binary(columns)[0]
    centred = columns - columns.mean(0)
    deviation = centred.square().mean(0).sqrt()
    sound = (deviation > 0) & (~two | (ends >= COMMON))
    return torch.where(sound, centred / deviation.clamp_min(1e-300), torch.zeros(()))
