"""How the gradient scatters over the examples: the gradients of equal parts of the sample."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.memory import out_of_memory
from downslope.core.numerals import many
from downslope.terrain.ground import ModelGround
from downslope.terrain.hvp import flat
from downslope.terrain.noise import Noise, noise_scale

PARTS = 16
"""Parts that the sample is cut into."""

ROOM = 2**28
"""Bytes that their gradients may take together."""


class Jitter(NamedTuple):
    """Gradients of parts of the sample."""

    gradients: Tensor
    """Shape (k, n), each the mean over its part."""
    size: int
    """Examples in a part."""
    noise: Noise
    """Moments of the gradient, and the batch size at which they balance."""


def jitter(ground: ModelGround, total: int, loss: float) -> Jitter | str:
    """The gradients of equal parts of the sample, at the cost of one gradient of the whole.

    Args:
        ground: Where it stands.
        total: Examples that it is measured on.
        loss: There.

    Returns:
        Them, or why there are none.
    """
    width = ground.size * ground.params[0].element_size()
    parts = max(4, min(PARTS, ROOM // max(width, 1)))
    size = total // parts
    if size < 1:
        return f"{many(total, 'example')}: too few to tell the noise of the gradient"
    while True:
        try:
            values, rows = _gradients(ground, parts, size)
            break
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or size == 1:
                raise
        size //= 2
    if len(rows) < 3:
        return f"{total} examples in such pieces are too few to tell the noise of the gradient"
    factor = _factor(values, loss, total / size)
    if factor is None:
        return "the loss is no mean over examples, so the noise of its gradient is not told"
    gradients = factor * torch.stack(rows)
    return Jitter(gradients, size, noise_scale(gradients, size))


def _gradients(ground: ModelGround, parts: int, size: int) -> tuple[list[float], list[Tensor]]:
    """Loss and gradient of so many parts of `size` examples each."""
    cut = itertools.chain.from_iterable(batches.slices(piece.batch, size) for piece in ground.pieces)
    values: list[float] = []
    rows: list[Tensor] = []
    for part in cut:
        if batches.length(part) != size or len(rows) == parts:
            continue
        value = ground.run(part).value
        found = torch.autograd.grad(value, ground.params, allow_unused=True, materialize_grads=True)
        rows.append(flat([each.to_dense() if each.is_sparse else each for each in found]).detach())
        values.append(float(value.detach()))
    return values, rows


def _factor(values: list[float], whole: float, parts: float) -> float | None:
    """1 for a mean over the examples, the number of parts for a sum, None for neither."""
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in values) / len(values))
    if abs(mean - whole) <= 0.02 * abs(whole) + 0.5 * spread:
        return 1.0
    if abs(mean * parts - whole) <= 0.02 * abs(whole) + 0.5 * parts * spread:
        return parts
    return None
