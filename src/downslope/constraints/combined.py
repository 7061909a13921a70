"""Intersections and unions of sets: the first of convex sets is convex, the second need not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.constraints.box import Box
from downslope.constraints.constraint import Constraint
from downslope.core.errors import InputError

MOST_ROUNDS = 20_000
SETTLED = 1e-12
"""Change in a round, in the point's own size, at which Dykstra's algorithm ends."""

TOGETHER = 1e-5
"""Distance to each set, in the point's own size, within which a point counts as common."""


class _Combined(Constraint):
    """Several sets; each says itself which parameters it holds."""

    joined = "&"

    def __init__(self, *parts: Constraint) -> None:
        for each in cast("tuple[Any, ...]", parts):
            if not isinstance(each, Constraint):
                raise InputError(f"{each!r} is no constraint of ds.constraints: only those can be combined")
            if each.by != "projection":
                raise InputError(f"{each}: only what is held by projection can be combined")
        own = type(self)
        flat = [p for each in parts for p in (each.parts if isinstance(each, own) else (each,))]
        object.__setattr__(self, "parts", tuple(flat))
        object.__setattr__(self, "params", ())
        object.__setattr__(self, "by", "projection")

    parts: tuple[Constraint, ...]

    def takes(self, its_names: tuple[str, ...], ndim: int) -> bool:
        """Whether any of the sets holds it."""
        return any(each.takes(its_names, ndim) for each in self.parts)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and cast("_Combined", other).parts == self.parts

    def __hash__(self) -> int:
        return hash((type(self), self.parts))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        loose = [isinstance(each, _Combined) for each in self.parts]
        texts = [f"({p})" if bare else str(p) for p, bare in zip(self.parts, loose, strict=True)]
        return f" {self.joined} ".join(texts)


class Intersection(_Combined):
    """Points that lie in all sets: ``a & b``. Convex if all are; whatever else is said by `convex`, None.

    The projection is Dykstra's algorithm (Dykstra 1983, JASA 78; Boyle and Dykstra 1986): projections in
    turn, each with the correction of its last round, end in the nearest common point; in turn alone they end
    in some common point.
    """

    name = "intersection"

    @property
    def convex(self) -> bool | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """True where all sets are; None otherwise."""
        return True if all(each.convex for each in self.parts) else None

    def project(self, w: Tensor) -> Tensor:
        """The nearest common point; of sets that are not convex, a common point nearby."""
        return common(w, self.parts)

    def __call__(self, model: nn.Module) -> None:
        """Bring every parameter into all sets that hold it."""
        with torch.no_grad():
            for name, p in self.held(model).items():
                p.copy_(common(p, [each for each in self.parts if each.takes((name,), p.dim())]))


class Union(_Combined):
    """Points that lie in one of the sets at least: ``a | b``; projected to the nearest of the projections."""

    name = "union"
    joined = "|"
    convex = None

    def __init__(self, *parts: Constraint) -> None:
        super().__init__(*parts)
        if len({each.params for each in self.parts}) > 1:
            raise InputError(
                f"{self}: the sets of a union must hold the same parameters: give all one params="
            )

    def project(self, w: Tensor) -> Tensor:
        """The nearest point of the nearest set."""
        found = [each.project(w) for each in self.parts]
        return min(found, key=lambda each: float((each - w).square().sum()))


def common(w: Tensor, sets: Sequence[Constraint]) -> Tensor:
    """The projection of `w` onto the intersection of `sets`.

    Raises:
        InputError: no common point was found; how far the sets stay apart is told.
    """
    if len(sets) == 1:
        return sets[0].project(w)
    if all(isinstance(each, Box) for each in sets):
        boxes = cast("Sequence[Box]", sets)
        lo, hi = max(each.lo for each in boxes), min(each.hi for each in boxes)
        if lo > hi:
            said = " & ".join(map(str, boxes))
            raise InputError(f"{said}: no point lies in all of them, they stay {lo - hi:g} apart; widen one")
        return Box(lo=lo, hi=hi).project(w)
    x = w.detach().double() if w.device.type != "mps" else w.detach().clone()
    size = float(x.square().sum().sqrt()) + 1e-300
    dykstra = all(each.convex for each in sets)
    corrections = [torch.zeros_like(x) for _ in sets]
    for _ in range(MOST_ROUNDS):
        before = x
        moved = 0.0
        for i, each in enumerate(sets):
            shifted = x + corrections[i]
            x = each.project(shifted)
            left = shifted - x if dykstra else corrections[i]
            moved += float((left - corrections[i]).square().sum())
            corrections[i] = left
        if moved**0.5 + float((x - before).square().sum().sqrt()) <= SETTLED * size:
            break
    apart = max(each.distance(x) for each in sets)
    if apart > TOGETHER * max(size, 1.0):
        raise InputError(
            f"{' & '.join(str(each) for each in sets)}: no common point was found, the sets stay {apart:.3g} "
            "apart; widen one of them"
        )
    return x.to(w.dtype)
