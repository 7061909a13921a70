"""The kind of a point, with samples of the loss where eigenvalues are silent or leave a doubt.

`downslope.terrain.surveys.kind` judges numbers; here the loss itself is asked for those that are lacking.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.terrain.functions.point import Point
from downslope.terrain.ground import ModelGround
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum import extremes
from downslope.terrain.surveys.bottom import bottom
from downslope.terrain.surveys.ends import Ends
from downslope.terrain.surveys.kind import Judged, View, classify
from downslope.terrain.surveys.profile import Profile, around, profile
from downslope.terrain.surveys.sampled import Way, at_kink, gone, lowest, on_kink
from downslope.terrain.surveys.split import split
from downslope.terrain.surveys.treads import treads

DIRECTIONS = 4
"""Directions without curvature that are looked for where not all eigenvalues are known."""


def judged_at(
    ground: ModelGround, operator: Operator, found: Ends, view: View, gradient: Tensor, loss: float, *,
    seed: int = 0,
) -> tuple[Judged, View, Way | None]:  # fmt: skip
    """The kind, the view with what was looked at besides, and a way down that samples found.

    Args:
        ground: Where it stands; it is put back there.
        operator: Its Hessian.
        found: Eigenvalues of it.
        view: The point in numbers.
        gradient: Flat.
        loss: There.
        seed: Of directions drawn at random.
    """
    judged, inside, way = classify(view), None, None
    if judged.kind in ("minimum", "maximum") and not judged.strict:
        inside = flat_directions(operator, found, seed)
    if judged.degenerate or (inside is not None and len(inside)):
        lines = around(ground, view.reach, loss, inside=inside, seed=seed)
        if not _steep(lines, view.rounding):
            lines += split(ground, lines, view.reach, loss, inside=inside)
        falls, rises = max(each.fall for _, each in lines), max(each.rise for _, each in lines)
        unseen = 0.5 * view.reach**2 * (0.0 if inside is None else float(found.errors.max()))
        view = view._replace(
            falls=falls, rises=rises, rounding=view.rounding + unseen, looked=len(lines), gone=gone(lines)
        )
        judged = classify(view)
        if view.exact and not gradient.any() and treads(ground, view.reach, loss, seed=seed):
            return Judged("plateau", False, True, judged.change), view._replace(treads=True), None
        if judged.kind in ("saddle", "maximum") and falls > view.rounding:
            way = lowest(ground, lines, view.reach, loss)
    if judged.kind in ("minimum", "maximum") and not (view.exact or view.noise):
        judged, view = _followed(judged, ground, view, gradient, loss)
    if judged.kind == "minimum" and not (view.noise or judged.degenerate):
        fall, away = bottom(ground, operator, found, gradient, loss)
        view = view._replace(far=fall, away=away)
        judged = classify(view)
    if judged.kind == "plateau" and _lowest(ground, loss, view.rounding):
        judged = judged._replace(kind="minimum", degenerate=True)
    elif on_kink(ground):
        judged, view, other = at_kink(ground, judged, view, gradient, loss, seed)
        way = other if way is None or judged.kind == "slope" else way
    return judged, view, way


def _steep(lines: list[tuple[Tensor, Profile]], rounding: float) -> bool:
    """Whether the loss goes both ways already."""
    return max(line.fall for _, line in lines) > rounding < max(line.rise for _, line in lines)


def flat_directions(operator: Operator, found: Ends, seed: int = 0) -> Tensor:
    """Orthonormal directions without curvature, shape (k, n): all where all eigenvalues are known, else some.

    Args:
        operator: The Hessian.
        found: Eigenvalues of it.
        seed: Of further searches, up to 20 products each.
    """
    kept = found.vectors[(found.values.abs() <= found.errors).to(found.vectors.device)]
    if found.complete or not len(kept):
        return kept
    rows = [*kept]
    for each in range(seed + 1, seed + DIRECTIONS):
        more = extremes(operator, 0, 1, tol=0.05, steps=20, seed=each)
        if abs(more.smallest) <= float(found.errors[-1]):
            rows.append(more.vectors[-1].to(kept))
    linalg: Any = torch.linalg
    basis: Tensor = linalg.qr(torch.stack(rows).T.double())[0]
    return basis.T.to(kept)


def _followed(
    judged: Judged, ground: ModelGround, view: View, gradient: Tensor, loss: float
) -> tuple[Judged, View]:
    """The slope followed within the reach: where the loss goes further than slope and curvature foretell (x^3
    next to 0), that counts.
    """
    line = profile(ground, gradient, view.reach, loss, far=1.0)
    seen = line.fall if judged.kind == "minimum" else line.rise
    if seen <= 2 * view.slope + view.rounding:
        return judged, view
    view = view._replace(slope=seen)
    return classify(view), view


def _lowest(ground: ModelGround, loss: float, rounding: float) -> bool:
    """Whether it is a test function that goes no lower."""
    model = ground.model
    if not isinstance(model, Point) or not model.function.attained:
        return False
    return loss <= model.function.infimum + rounding
