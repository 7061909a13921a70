"""What samples of the loss around a point tell where derivatives do not: on kinks, and beyond second order.

On a kink gradient and Hessian are those of one of the sides, or of none. There the loss itself is compared, a
sixteenth of the reach to the reach away, both ways along random directions and, of small models, along every
coordinate. A direction along which it falls in proportion to the move, and not the other way too, is a slope;
lower both ways, a saddle or a maximum; lower nowhere, a minimum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.ground import ModelGround
from downslope.terrain.hvp import length
from downslope.terrain.surveys.kind import Judged, View
from downslope.terrain.surveys.kinks import kinks
from downslope.terrain.surveys.profile import NEAR, Profile, around, profile
from downslope.terrain.surveys.split import split

COORDINATES = 32
"""Parameters up to which every coordinate is looked along."""

HALVINGS = 10
"""Quarters of the reach down to which the slope is followed on a kink."""

LINEAR = 0.75
"""Share that half of a move has to win, of half of what the move wins, for a fall of first order."""

TURNS = 8
"""Steps in which a way down is turned to where it falls further."""


class Way(NamedTuple):
    """A way down that samples found."""

    direction: Tensor
    """Of length 1, flat."""
    line: Profile
    """The loss along it."""


def on_kink(ground: ModelGround) -> bool:
    """Whether the first examples stand at one."""
    piece = next(iter(ground.pieces))
    return bool(kinks(lambda: ground.run(piece.batch)).at)


def at_kink(
    ground: ModelGround, judged: Judged, view: View, gradient: Tensor | None, loss: float, seed: int = 0
) -> tuple[Judged, View, Way | None]:
    """The kind of a point on a kink, and a way down where samples see one.

    Args:
        ground: It stands there.
        judged: What derivatives say.
        view: From what.
        gradient: Flat; None where there is none.
        loss: There.
        seed: Of directions drawn at random.
    """
    if judged.kind == "slope" and gradient is not None and _leads(ground, gradient, view, loss):
        return judged, view, None
    looked = [*around(ground, view.reach, loss, seed=seed), *_coordinates(ground, view.reach, loss)]
    if gradient is not None:
        looked += split(ground, looked, view.reach, loss)
    rises, falls = max(each.rise for _, each in looked), max(each.fall for _, each in looked)
    least = view.rounding if gradient is None or judged.kind == "slope" else max(view.rounding, view.slope)
    view = view._replace(falls=falls, rises=rises, looked=len(looked), gone=gone(looked))
    if falls <= least:
        if judged.kind == "slope" or gradient is None:
            kind = "minimum" if rises > least else "plateau"
            return Judged(kind, False, True, judged.change), view._replace(kink=True), None
        return judged, view, None
    down = [each for each in looked if each[1].fall > least]
    ahead = [each for each in down if _corners(each[1], view.rounding) == 1]
    corners = [each for each in down if _corners(each[1], view.rounding) == 2]
    best = max(ahead or corners or down, key=lambda each: each[1].fall)
    way = _towards(ground, best[0], best[1])
    if ahead or judged.kind == "slope":
        return Judged("slope", False, True, judged.change), view._replace(slope=way.line.fall, kink=True), way
    if gradient is None or (corners and judged.kind == "minimum"):
        kind = "saddle" if rises > least else "maximum"
        return Judged(kind, False, True, judged.change), view._replace(kink=True), way
    return judged, view, None if judged.kind == "minimum" else way


def gone(looked: list[tuple[Tensor, Profile]]) -> float:
    """Share of the samples at which the loss is not finite."""
    return sum(line.gone for _, line in looked) / max(len(looked), 1)


def _coordinates(ground: ModelGround, reach: float, loss: float) -> list[tuple[Tensor, Profile]]:
    if ground.size > COORDINATES:
        return []
    units = torch.eye(ground.size, dtype=torch.float64, device=ground.params[0].device)
    return [(each, profile(ground, each, reach, loss, far=NEAR)) for each in units]


def _leads(ground: ModelGround, gradient: Tensor, view: View, loss: float) -> bool:
    """Whether the loss falls down the gradient, however short the move."""
    here, size = ground.where(), length(gradient.double())
    if not size > 0:
        return False
    try:
        for each in range(HALVINGS + 1):
            ground.put(here - (view.reach * 4.0**-each / size) * gradient.to(here))
            if ground.loss() < loss - view.rounding:
                return True
    finally:
        ground.put(here)
    return False


def _corners(line: Profile, rounding: float) -> int:
    """On how many sides the loss falls in proportion to the move; 0 where it only falls otherwise on one."""
    middle, found = line.lengths.index(0.0), 0
    one, two = ([line.here - line.losses[middle + sign * k] for sign in (1, -1)] for k in (1, 2))
    lengths = line.lengths[middle + 1], line.lengths[middle + 2]
    for side in (0, 1):
        if one[side] > rounding:
            if one[side] / lengths[0] < LINEAR * two[side] / lengths[1]:
                return 0
            found += 1
    return found


def _towards(ground: ModelGround, direction: Tensor, line: Profile) -> Way:
    """The direction of length 1 along which the loss is lowest ahead."""
    unit = (direction.double() / length(direction.double())).to(ground.where())
    return Way(-unit, line.reversed()) if line.at < 0 else Way(unit, line)


def lowest(ground: ModelGround, looked: list[tuple[Tensor, Profile]], reach: float, loss: float) -> Way:
    """The way that falls furthest, turned on the sphere around the point to where it falls further still.

    Args:
        ground: Where it stands; it is put back there.
        looked: Directions and the loss along them, one of which falls.
        reach: The move that is reckoned with.
        loss: At the point.
    """
    way = _towards(ground, *max(looked, key=lambda each: each[1].fall))
    here, unit, radius, step = ground.where(), way.direction, way.line.at, 0.5
    try:
        for _ in range(TURNS):
            ground.put(here + radius * unit)
            value, gradient = ground.slope()
            across = gradient - (gradient @ unit) * unit
            if not length(across) > 0:
                break
            other: Tensor = unit - (step / length(across)) * across
            other = other / length(other)
            ground.put(here + radius * other)
            unit, step = (other, step) if ground.loss() < value else (unit, step / 2)
    finally:
        ground.put(here)
    return _towards(ground, unit, profile(ground, unit, reach, loss))
