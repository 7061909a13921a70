"""Sites by name: the saddles and local minima of the classic functions, and saddles of networks."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.spelling import Spelt, by_name, parse
from downslope.terrain.escapes.sites.learnt import deep_linear, symmetric_mlp
from downslope.terrain.escapes.sites.site import Inside, Site
from downslope.terrain.escapes.sites.tilted import tilted
from downslope.terrain.functions import CriticalPoint, Function

NETWORKS: dict[str, Callable[..., Site]] = {"deep_linear": deep_linear, "symmetric_mlp": symmetric_mlp}
"""Saddles of networks, on examples of their own."""


def network(name: str, examples: int | None = None) -> Site | None:
    """The site of a network, such as "deep_linear(depth=3)"; None where it is the name of something else.

    Raises:
        InputError: a setting that it does not have, or outside its domain.
    """
    found = parse(name) if "(" in name else Spelt(name)
    make = NETWORKS.get(found.name.strip().lower().replace("-", "_").replace(" ", "_"))
    if make is None:
        return None
    takes = list(inspect.signature(make).parameters)
    given = by_name(found, takes) | ({} if examples is None else {"examples": examples})
    for key in given:
        if key not in takes:
            raise InputError(f"{key!r} is no setting of {make.__name__}: it takes {', '.join(takes)}")
    return make(**given)


def of_function(
    function: Function, point: str | Sequence[float] | Tensor | None = None, **settings: Any
) -> Site:
    """The site at a critical point of one of the `downslope.terrain.functions`.

    Args:
        function: As `downslope.terrain.functions.get` gives it.
        point: "saddle", "minimum" (a local one before the global ones), coordinates near a critical point, or
            None for a saddle where there is one.
        **settings: Of `tilted`. Left out, `inside` is, of a minimum, its part of the ground: on a line up to
            the maxima beside it, else what is nearer to it than to any other minimum; of a saddle, half the
            way to the next critical point, 1 where there is none.

    Raises:
        InputError: no such point.
    """
    found = _chosen(function, point)
    if "inside" not in settings:
        settings["inside"], settings["region"] = _region(function, found)
    name = f"{function.spelt}, {found.kind} at ({', '.join(f'{each:.4g}' for each in found.at)})"
    site = tilted(function, torch.tensor(found.at, dtype=torch.float64), name=name, **settings)
    return replace(site, domain=function.domain)


def _chosen(function: Function, point: str | Sequence[float] | Tensor | None) -> CriticalPoint:
    saddles = [each for each in function.critical if each.kind == "saddle"]
    minima = sorted(function.minima, key=lambda each: each.is_global)
    if isinstance(point, str) and point not in ("saddle", "minimum"):
        raise InputError(f"point={point!r}: must be 'saddle', 'minimum', or coordinates")
    if point is None or isinstance(point, str):
        of_kind = {"saddle": saddles, "minimum": minima, None: saddles or minima}[point]
        if not of_kind:
            raise InputError(f"{function.spelt} has no {point or 'saddle and no minimum'} to escape from")
        return of_kind[0]
    given = [float(each) for each in point]
    near = [each for each in function.critical if len(each.at) == len(given)]
    best = min(near, key=lambda each: math.dist(each.at, given), default=None)
    if best is None or math.dist(best.at, given) > 1e-2:
        listed = ", ".join(
            f"{each.kind} ({', '.join(f'{x:.4g}' for x in each.at)})" for each in function.critical[:6]
        )
        raise InputError(f"{function.spelt} is not critical at {given}; it is at: {listed or 'no point'}")
    return best


def _region(function: Function, point: CriticalPoint) -> tuple[float | Inside, str]:
    others = [each for each in function.critical if each is not point]
    if point.kind != "minimum" or not others:
        radius = min((math.dist(each.at, point.at) for each in others), default=2.0) / 2
        return radius, ""
    if function.dimension == 1:
        return _between(function, point)
    centres = torch.tensor([point.at, *(each.at for each in function.minima if each is not point)])

    def nearest(points: Tensor) -> Tensor:
        return torch.cdist(points.detach(), centres.to(points)).argmin(1) == 0

    return nearest, "nearer to it than to any other minimum"


def _between(function: Function, point: CriticalPoint) -> tuple[Inside, str]:
    """On a line: up to the next maximum on either side, for ever where there is none."""
    tops = [each.at[0] for each in function.critical if each.kind == "maximum"]
    left = max([each for each in tops if each < point.at[0]], default=-math.inf)
    right = min([each for each in tops if each > point.at[0]], default=math.inf)

    def inside(points: Tensor) -> Tensor:
        return (points[:, 0] > left) & (points[:, 0] < right)

    told = [f"right of the top at {left:.4f}"] if math.isfinite(left) else []
    told += [f"left of the top at {right:.4f}"] if math.isfinite(right) else []
    return inside, " and ".join(told)
