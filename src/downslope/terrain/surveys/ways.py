"""Where a point leads: the ways down from it, and the known critical point next to it."""

from __future__ import annotations

import math

from downslope.terrain.functions.point import Point
from downslope.terrain.ground import ModelGround
from downslope.terrain.surveys.ends import Ends
from downslope.terrain.surveys.kind import View
from downslope.terrain.surveys.profile import profile
from downslope.terrain.surveys.sampled import Way
from downslope.terrain.surveys.terrain import Escape, Known


def by_curvature(ground: ModelGround, found: Ends, view: View, loss: float) -> Escape | None:
    """The way along the lowest curvature; None where none is below zero beyond its error."""
    if not view.low < -view.low_error:
        return None
    vector = found.vectors[-1]
    line = profile(ground, vector, view.reach, loss)
    if line.at < 0:
        vector, line = -vector, line.reversed()
    return Escape(
        curvature=view.low, error=view.low_error, flat=vector, by_name=ground.named(vector),
        profile=line, fall=line.fall, at=line.at,
    )  # fmt: skip


def by_samples(ground: ModelGround, way: Way, curvature: float = math.nan, error: float = math.nan) -> Escape:
    """The way that samples found; `curvature` along it, within `error`, is that of no proof."""
    return Escape(
        curvature=curvature, error=max(error, abs(curvature)), flat=way.direction,
        by_name=ground.named(way.direction), profile=way.line, fall=way.line.fall, at=way.line.at,
    )  # fmt: skip


def known_place(ground: ModelGround) -> Known | None:
    """Where a point on a test function lies among its known critical points."""
    if not isinstance(ground.model, Point):
        return None
    at: list[float] = ground.where().tolist()
    function = ground.model.function
    near = min(function.critical, key=lambda each: math.dist(each.at, at), default=None)
    if near is None:
        return None
    return Known(
        function=function.spelt, kind=near.kind, at=near.at, value=near.value, is_global=near.is_global,
        distance=math.dist(near.at, at),
    )  # fmt: skip
