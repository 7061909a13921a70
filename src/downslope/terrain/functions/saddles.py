"""Saddles: one with a way down, one with three, and one between two wells."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.functions.function import CriticalPoint, Function


def _saddle(x: Tensor) -> Tensor:
    return x[..., 0] ** 2 - x[..., 1] ** 2


def _monkey(x: Tensor) -> Tensor:
    return x[..., 0] ** 3 - 3 * x[..., 0] * x[..., 1] ** 2


def saddle() -> Function:
    """``x^2 - y^2``: down along y, up along x. Source: Zhang et al., Dive into Deep Learning, section 12.1.

    The usual start lies on the ridge but for a millionth.
    """
    return Function(
        name="saddle",
        formula="x² − y²",
        dimension=2,
        evaluate=_saddle,
        domain=((-1.5, 1.5), (-1.5, 1.5)),
        start=(-1.3, 1e-6),
        critical=(CriticalPoint(at=(0.0, 0.0), value=0.0, kind="saddle"),),
        attained=False,
        shows="from the ridge each method first runs into the saddle, then leaves it at a pace of its own",
        source="Zhang et al., Dive into Deep Learning, section 12.1",
    )


def monkey_saddle() -> Function:
    """``x^3 - 3 x y^2``: three ways down (two legs and a tail), and a Hessian of zeros at the saddle."""
    return Function(
        name="monkey_saddle",
        formula="x³ − 3xy²",
        dimension=2,
        evaluate=_monkey,
        domain=((-1.5, 1.5), (-1.5, 1.5)),
        start=(1.0, 1e-3),
        critical=(CriticalPoint(at=(0.0, 0.0), value=0.0, kind="saddle", degenerate=True),),
        attained=False,
        shows="second derivatives do not tell this saddle from flat ground: third ones do",
        source="Hilbert and Cohn-Vossen 1952, Geometry and the Imagination, section 29",
    )


class _Wells:
    """``(x^2 - 1)^2 / 4 + tilt x + 1/2 sum of the other coordinates squared``."""

    def __init__(self, tilt: float) -> None:
        self.tilt = tilt

    def __call__(self, x: Tensor) -> Tensor:
        first = x[..., 0]
        return (first**2 - 1) ** 2 / 4 + self.tilt * first + 0.5 * (x[..., 1:] ** 2).sum(-1)


def double_well(dimension: int = 2, tilt: float = 0.0) -> Function:
    """``(x^2 - 1)^2 / 4 + tilt x + |rest|^2 / 2``: two wells and the saddle between them.

    Args:
        dimension: Coordinates, at least 1; on a line the saddle is a maximum.
        tilt: Float in (-.38, .38), beyond which one well is gone; positive makes the left one the deeper.

    Raises:
        InputError: outside of these.
    """
    limit = 2 / 27**0.5
    if dimension < 1 or not abs(tilt) < limit:
        raise InputError(
            f"double_well(dimension={dimension}, tilt={tilt:g}): needs at least one coordinate, and a tilt "
            f"below {limit:.3f} in size, beyond which one well is gone"
        )
    roots = sorted(float(each.real) for each in np.roots([1.0, 0.0, -1.0, tilt]))
    roots = [each - (each**3 - each + tilt) / (3 * each**2 - 1) for each in roots]
    values = [(each**2 - 1) ** 2 / 4 + tilt * each for each in roots]
    middle = "maximum" if dimension == 1 else "saddle"
    points = [
        CriticalPoint(
            at=(root, *[0.0] * (dimension - 1)),
            value=value,
            kind=middle if place == 1 else "minimum",
            is_global=place != 1 and value <= min(values) + 1e-15,
        )
        for place, (root, value) in enumerate(zip(roots, values, strict=True))
    ]
    settings = {"dimension": dimension} if dimension != 2 else {}
    return Function(
        name="double_well",
        formula="(x² − 1)²/4 + tilt x + |rest|²/2",
        dimension=dimension,
        evaluate=_Wells(tilt),
        domain=((-1.8, 1.8),) + ((-1.2, 1.2),) * (dimension - 1),
        start=(1e-3, *[1.0] * (dimension - 1)),
        critical=tuple(sorted(points, key=lambda each: each.value)),
        infimum=min(values),
        shows="a saddle between two minima: which one is reached hangs on a start beside the ridge",
        settings=settings | ({"tilt": tilt} if tilt else {}),
    )
