"""Directions that something else gives: eigenvectors of the Hessian, and other models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.terrain.ground import ModelGround
from downslope.terrain.hvp import flat, length
from downslope.terrain.slices.directions import Direction
from downslope.terrain.slices.slice import Mark
from downslope.terrain.spectrum import extremes


def eigen(
    ground: ModelGround, wanted: Sequence[str], layers: Sequence[str], seed: int, notes: list[str]
) -> dict[str, tuple[Direction, float]]:
    """Unit eigenvectors of the Hessian's largest and smallest eigenvalue, and how far to look along them.

    The reach is the move at which the largest curvature in size would, alone, add twice the loss.

    Args:
        ground: Where the model stands.
        wanted: "top", "bottom" or both.
        layers: Beginnings of names that move alone.
        seed: Of the start vector.
        notes: Gets the eigenvalues and their errors.

    Raises:
        InputError: the Hessian is not finite here.
    """
    part = ground.restricted(layers) if layers else ground
    found = extremes(part.hessian(), 1, 1, tol=1e-2, steps=60, seed=seed)
    pairs = {"top": 0, "bottom": len(found.values) - 1}
    values = {key: float(found.values[index]) for key, index in pairs.items()}
    if not all(map(math.isfinite, values.values())):
        raise InputError("directions='eigen': the Hessian is not finite here; random directions need none")
    loss = abs(ground.loss())
    steepest = max(abs(each) for each in values.values())
    reach = math.sqrt(4 * (loss if math.isfinite(loss) and loss > 0 else 1.0) / steepest) if steepest else 1.0
    made: dict[str, tuple[Direction, float]] = {}
    for key in dict.fromkeys(wanted):
        index, end = pairs[key], "largest" if key == "top" else "smallest"
        error = float(found.errors[index])
        notes.append(f"the {end} eigenvalue of the Hessian is {numeral(values[key])} ± {numeral(error, 2)}")
        vector = _whole(ground, part, found.vectors[index].to(ground.params[0]))
        made[key] = Direction(vector, f"eigenvector of the {end} eigenvalue, {numeral(values[key])}"), reach
    if not found.exact:
        notes.append("the model has no second derivative; eigenvectors come from differences of gradients")
    return made


def _whole(ground: ModelGround, part: ModelGround, vector: Tensor) -> Tensor:
    """A vector of some parameters as one of all: the others do not move."""
    if part is ground:
        return vector
    moved = part.named(vector)
    own = zip(ground.names, ground.params, strict=True)
    return flat([moved.get(name, torch.zeros_like(p)).detach() for name, p in own])


def aims(
    ground: ModelGround, others: Sequence[Tensor]
) -> tuple[list[Direction], list[tuple[float, float]], list[Mark]]:
    """Directions to one or two other models, their ends, and where the models lie.

    Of two, the second direction is made orthogonal to the first and as long: coordinates are then distances
    in the first's.

    Raises:
        InputError: more than two, or models that are the same, or on one line.
    """
    if len(others) > 2:
        raise InputError(f"to: {len(others)} models; a line goes to one, a plane to two")
    here = ground.where()
    first = others[0] - here
    size = length(first)
    if not size > 0:
        raise InputError("to: the models have the same weights, so there is no line between them")
    if len(others) == 1:
        marks = [Mark((0.0,), "from", math.nan), Mark((1.0,), "to", math.nan, "end")]
        return [Direction(first, "from one model to the other")], [(-0.25, 1.25)], marks
    along = float(torch.dot(others[1] - here, first)) / size**2
    second = others[1] - here - along * first
    if not length(second) > 1e-6 * size:
        raise InputError("to: the three models lie on one line; a plane needs one beside it")
    up = length(second) / size
    found = [Direction(first, "to the second model"), Direction(second / up, "towards the third model")]
    at = ((0.0, 0.0), (1.0, 0.0), (along, up))
    ends = [(min(x), max(x)) for x in zip(*at, strict=True)]
    ends = [(low - 0.25 * (high - low), high + 0.25 * (high - low)) for low, high in ends]
    names = ("first", "second", "third")
    return found, ends, [Mark(each, name, math.nan, "end") for each, name in zip(at, names, strict=True)]
