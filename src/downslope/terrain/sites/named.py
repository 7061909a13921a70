"""Sites by name: saddles and local minima whose shape is known, and saddles of networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import UnknownNameError
from downslope.core.names import did_you_mean
from downslope.terrain.sites.learnt import copied_unit, deep_linear
from downslope.terrain.sites.site import Site
from downslope.terrain.sites.tilted import tilted

WELL = -0.2738526871
"""The local minimum of x cos(pi x) next to 0; its mirror image is the top of the barrier to the right."""
OUTER = -1.0904082221
"""The maximum on its left, the mirror image of the minimum at 1.0904."""


def named(name: str, **settings: Any) -> Site:
    """The site of a name.

    Args:
        name: One of `SITES`; case, "_" and spaces do not matter.
        **settings: For its maker: `noise`, `examples` and `seed` of functions, `depth` of a deep linear net.

    Raises:
        UnknownNameError: no such site; the message names the nearest.
    """
    spelt = name.strip().lower().replace("_", "-").replace(" ", "-")
    if spelt not in SITES:
        raise UnknownNameError(f"site {name!r} is not known{did_you_mean(spelt, SITES)}")
    return SITES[spelt](**settings)


def _saddle(**settings: Any) -> Site:
    """x^2 - y^2 at 0: strict, its curvature is -2 along y."""
    return tilted(
        lambda p: p[..., 0].square() - p[..., 1].square(), torch.zeros(2), name="saddle", **settings
    )


def _monkey(**settings: Any) -> Site:
    """x^3 - 3 x y^2 at 0: three valleys, and no curvature at all."""
    return tilted(
        lambda p: p[..., 0] ** 3 - 3 * p[..., 0] * p[..., 1].square(),
        torch.zeros(2),
        name="monkey-saddle",
        **settings,
    )


def wells(points: Tensor) -> Tensor:
    """Two wells ``(x^2 - 1)^2/4 + y^2/2``: minima at (-1, 0) and (1, 0), a saddle of height 1/4 between."""
    return (points[..., 0].square() - 1).square() / 4 + points[..., 1].square() / 2


def _between(**settings: Any) -> Site:
    """The saddle between two wells: curvature -1 along x, and a floor to fall to on either side."""
    return tilted(wells, torch.zeros(2), name="double-well-saddle", inside=0.5, **settings)


def _well(**settings: Any) -> Site:
    """The left of two wells, to be left over a barrier of 1/4."""
    return tilted(
        wells,
        torch.tensor([-1.0, 0.0]),
        name="double-well",
        inside=lambda points: points[:, 0] < 0,
        region="left of the ridge x = 0",
        **settings,
    )


def ripples(points: Tensor) -> Tensor:
    """``x cos(pi x)``: local minima at -0.274, 1.090, ..., the lower the farther out."""
    x = points[..., 0]
    return x * torch.cos(torch.pi * x)


def _ripple(**settings: Any) -> Site:
    """The local minimum of x cos(pi x) next to 0, under a barrier of 0.358."""
    return tilted(
        ripples,
        torch.tensor([WELL], dtype=torch.float64),
        name="x-cos-pi-x",
        inside=lambda points: (points[:, 0] > OUTER) & (points[:, 0] < -WELL),
        region=f"between the tops at {OUTER:.4f} and {-WELL:.4f}",
        **settings,
    )


SITES: dict[str, Callable[..., Site]] = {
    "saddle": _saddle,
    "monkey-saddle": _monkey,
    "double-well-saddle": _between,
    "deep-linear": deep_linear,
    "symmetric-mlp": copied_unit,
    "double-well": _well,
    "x-cos-pi-x": _ripple,
}
"""Five saddles and two local minima, by name."""
