"""The curvature layer by layer: trace and sharpness of each layer's block of the Hessian.

The traces come from Hutchinson's probes of the whole matrix, cut into layers (Hutchinson 1990): for random
signs z, ``sum_{i in layer} z_i (H z)_i`` is an unbiased estimate of the trace of the block. Their scatter
over the probes gives the standard error. The sharpness of a block is its largest eigenvalue by Lanczos.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core.adapted import Adapted
from downslope.terrain.ground import Ground
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum import extremes
from downslope.terrain.surveys.ends import Ends
from downslope.terrain.surveys.terrain import Layer

PROBES = 16
"""Random vectors for the traces, a product each."""

MOST = 12
"""Layers whose sharpness is measured: those with the largest traces."""

STEPS = 12
"""Products of a block at most."""

TOL = 0.02
"""Error of the sharpness of a block that is good enough, as a share of it."""


class Part(NamedTuple):
    """The parameters of one layer."""

    name: str
    """Of the module that holds them; of the model's own parameters their names."""
    held: tuple[str, ...]
    """Their names."""
    places: Tensor
    """Of the flat vector, int64."""


class Layers(NamedTuple):
    """What was measured."""

    layers: tuple[Layer, ...]
    """In the order of the model."""
    trace: float
    trace_error: float
    products: int


def parts(ground: Ground) -> list[Part]:
    """The layers: the modules that hold parameters, in the order of the model."""
    sizes = [p.numel() for p in ground.params]
    starts = dict(zip(ground.names, itertools.accumulate([0, *sizes]), strict=False))
    ends = dict(zip(ground.names, itertools.accumulate(sizes), strict=True))
    return [
        Part(
            _own(ground, module or ", ".join(held)), tuple(held),
            torch.cat([torch.arange(starts[each], ends[each]) for each in held]),
        )
        for module, held in ground.layers().items()
    ]  # fmt: skip


def _own(ground: Ground, name: str) -> str:
    """A name as it is in the user's model, without what adapts it."""
    model = getattr(ground, "model", None)
    while isinstance(model, Adapted) and name.startswith("inner."):
        name, model = name.removeprefix("inner."), model.inner
    return name


def of_matrix(ground: Ground, found: Ends) -> Layers:
    """The blocks of a matrix of which all eigenpairs are known."""
    vectors = found.vectors.double().cpu()
    matrix = (vectors.T * found.values) @ vectors
    error = float(found.errors.max())
    linalg: Any = torch.linalg
    layers: list[Layer] = []
    for part in parts(ground):
        block = matrix[part.places][:, part.places]
        sharp = float(linalg.eigvalsh(block)[-1])
        layers.append(Layer(part.name, len(part.places), float(block.trace()), 0.0, sharp, error))
    return Layers(tuple(layers), float(found.values.sum()), 0.0, 0)


def layerwise(
    ground: Ground, operator: Operator, like: Tensor, *, probes: int = PROBES, seed: int = 0,
    until: float = math.inf,
) -> Layers:  # fmt: skip
    """Trace and sharpness of every layer's block, and the trace of the whole.

    Args:
        ground: Where it stands.
        operator: Its Hessian there.
        like: A flat vector in the dtype of the products.
        probes: Random vectors, at least 2.
        seed: Of the probes.
        until: `time.monotonic` after which no further block is measured.
    """
    cut = parts(ground)
    made = _probed(operator, like, cut, probes, seed)
    means: list[float] = made.mean(0).tolist()
    errors: list[float] = (made.std(0) / probes**0.5).tolist()
    taken, sharp = probes, dict[int, tuple[float, float]]()
    for i in sorted(range(len(cut)), key=lambda i: -abs(means[i]))[:MOST]:
        if time.monotonic() > until:
            break
        block = ground.restricted(cut[i].held).hessian(STEPS)
        found = extremes(block, 1, 0, tol=TOL, steps=min(STEPS, block.size), seed=seed, copies=False)
        taken += found.products
        sharp[i] = found.largest, float(found.residuals[0])
    layers = [
        Layer(part.name, len(part.places), means[i], errors[i], *sharp.get(i, (math.nan, math.nan)))
        for i, part in enumerate(cut)
    ]
    whole = made.sum(1)
    return Layers(tuple(layers), float(whole.mean()), float(whole.std()) / probes**0.5, taken)


def _probed(operator: Operator, like: Tensor, cut: list[Part], probes: int, seed: int) -> Tensor:
    """``z * H z`` summed over each layer, a row for each probe."""
    draw = torch.Generator().manual_seed(seed)
    rows: list[Tensor] = []
    for _ in range(probes):
        z = 2.0 * torch.randint(0, 2, (operator.size,), generator=draw, dtype=torch.float64) - 1.0
        product = operator.product(z.to(like)).double().cpu() * z
        rows.append(torch.stack([product[part.places].sum() for part in cut]))
    return torch.stack(rows)
