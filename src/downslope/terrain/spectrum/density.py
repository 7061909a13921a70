"""The density of the eigenvalues of an operator, by stochastic Lanczos quadrature, with a stated error.

Ubaru, Chen and Saad 2017, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature; for the Hessians of
networks Ghorbani, Krishnan and Xiao 2019. What is told apart here: the error of having few probes (a standard
error over them), the error of having few products (a bound, from the degree that the quadrature is exact to),
and the width to which eigenvalues are blurred. The outliers that a first look finds are taken out and put
back as what they are: they would spoil all three.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.krylov import Krylov
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum.deflated import orthonormal
from downslope.terrain.spectrum.distribution import Density, drawn_on
from downslope.terrain.spectrum.estimate import Floats
from downslope.terrain.spectrum.extremes import errors_of, extremes
from downslope.terrain.spectrum.operand import Operand, operand
from downslope.terrain.spectrum.quadrature import Rule, rule_from

OUTLIERS = 64
"""Eigenvectors at most that are taken out before probes are drawn."""

SETTLED = 1e-3
"""Residual, as a share of the width of what remains, at which an outlier is known well enough."""


def density(
    operator: Operator, *, probes: int = 10, steps: int = 80, width: float | None = None, points: int = 512,
    seed: int = 0,
) -> Density:  # fmt: skip
    """How the eigenvalues are distributed.

    Args:
        operator: Symmetric.
        probes: Random vectors, at least 2; the standard error falls with their root.
        steps: Products with each of them, at least 2; the resolution grows with them. One more such series
            finds the outliers.
        width: Standard deviation of the normal curve that stands for an eigenvalue, positive; by default as
            narrow as `steps` allow, ``L / (steps / 2)`` with L half the width of the spectrum without
            outliers.
        points: Of the grid, besides those on the peaks of outliers.
        seed: Of the probes.

    Returns:
        The density. Where the operator has no more rows than ``probes * steps`` all its eigenvalues are found
        instead, at the cost of a product each, and nothing is estimated. Memory: ``steps`` vectors.

    Raises:
        InputError: an argument outside its domain.
    """
    if probes < 2 or steps < 2 or points < 2 or (width is not None and not 0 < width < math.inf):
        raise InputError(
            f"probes={probes}, steps={steps}, points={points}, width={width}: at least 2 probes (one has no "
            "standard error), 2 steps and 2 points, and a positive width"
        )
    given = operand(operator)
    size, draw = operator.size, torch.Generator().manual_seed(seed)
    if size <= probes * steps:
        return _whole(operator, width, points, steps)
    scout, _ = _grown(given, draw, steps, None)
    if scout is None:
        return Density.unknown(size, steps)
    values, vectors = _outliers(scout)
    rules: list[Rule] = []
    products = scout.products
    for _ in range(probes):
        space, rule = _grown(given, draw, steps, vectors)
        if space is None or rule is None:
            return Density.unknown(size, products)
        products += space.products
        rules.append(rule)
    largest = max(np.abs(each).max(initial=0.0) for each in (values, *(r.nodes for r in rules)))
    zero = _floor(given, float(largest))
    return drawn_on(rules, values, size, products, width, points, zero)


def _grown(
    given: Operand, draw: torch.Generator, steps: int, locked: Tensor | None
) -> tuple[Krylov | None, Rule | None]:
    """A subspace of a fresh vector, uniform on the sphere of what is not locked; None where not finite."""
    free = given.operator.size - (0 if locked is None else len(locked))
    space = Krylov(given.product, given.normal(draw)[0], min(steps, free), locked)
    while not space.full:
        space.grow()
        if space.lost:
            return None, None
        if space.broken:
            break
    return space, rule_from(space)


def _outliers(scout: Krylov) -> tuple[Floats, Tensor]:
    """The settled eigenpairs next to both ends: values, and orthonormal rows."""
    pairs = scout.ritz()
    errors = errors_of(pairs)
    low, high = 0, len(pairs.values)
    while high - low > 4 and low + len(pairs.values) - high < OUTLIERS:
        inner = float(pairs.values[high - 2] - pairs.values[low + 1])
        above = float(pairs.values[high - 1] - pairs.values[high - 2])
        below = float(pairs.values[low + 1] - pairs.values[low])
        at = high - 1 if above >= below else low
        settled = float(pairs.residuals[at]) <= SETTLED * inner and float(errors[at]) <= SETTLED**2 * inner
        if not settled or max(above, below) < inner / len(pairs.values):
            break
        low, high = (low, high - 1) if at == high - 1 else (low + 1, high)
    chosen = [*range(low), *range(high, len(pairs.values))]
    rows = scout.vectors(pairs.coordinates[:, chosen])
    return pairs.values[chosen].numpy(), orthonormal(rows)


def _whole(operator: Operator, width: float | None, points: int, steps: int) -> Density:
    """The density of an operator small enough to know all of its eigenvalues."""
    size = operator.size
    found = extremes(operator, size, 0, steps=size + 8)
    values = found.values.flip(0).numpy()
    if not np.isfinite(values).all():
        return Density.unknown(size, found.products)
    zero = _floor(operand(operator), float(np.abs(values).max()))
    spread = float(np.ptp(values)) or abs(float(values[0])) or 1.0
    return drawn_on([], values, size, found.products, width or spread / steps, points, zero)


def _floor(given: Operand, largest: float) -> float:
    """The magnitude below which an eigenvalue cannot be told from zero."""
    return largest * (100 * torch.finfo(given.dtype).eps if given.operator.exact else 1e-3)
