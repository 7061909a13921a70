"""The convexity of a problem: proved by its structure, refuted by a witness, or neither.

A problem is not convex as soon as one point is known at which its loss bends down, or one chord that runs
below its graph: ``J((a + b) / 2) > (J(a) + J(b)) / 2`` (Boyd and Vandenberghe 2004, sections 3.1.1, 3.1.4).
Both are kept as a witness, beyond residual and rounding, a curvature only where a chord along it confirms it
(`downslope.terrain.surveys.confirmed`). That no witness was found proves nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]

from downslope.core.asked import check_asked
from downslope.core.errors import DownslopeError, InputError, ObjectiveError
from downslope.core.modules import copied
from downslope.core.numerals import many, numeral
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.terrain.convexity.structure import Structure, structure
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.newton import DENSE
from downslope.terrain.exact.solve import Recognised, solved
from downslope.terrain.functions.function import Function
from downslope.terrain.functions.point import Point
from downslope.terrain.ground import ModelGround
from downslope.terrain.ground.stand import Standing, stand
from downslope.terrain.surveys.confirmed import ULPS, Chord, cancelled, chord, jitters
from downslope.terrain.surveys.ends import ends, lost
from downslope.terrain.surveys.profile import Profile, profile
from downslope.terrain.surveys.reach import reach_of
from downslope.terrain.surveys.treads import standing

By = Literal["structure", "curvature", "chord", "samples"]
Minima = Literal["one", "many", "none"]

WIDE = 3.0
"""How far the samples are spread around a start, in its own size: the largest factor of its weights."""


EPS = torch.finfo(torch.float64).eps
"""In which it is sampled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Witness:
    """What shows that a problem is not convex; checked again by evaluating it there.

    Attributes:
        excess: By how much it fails: the curvature along `direction`, below zero, or ``J(midpoint)`` less the
            mean of the ends, above zero.
        error: Residual or rounding of `excess`.
        at: Where it bends down, or one end of the chord: parameters by name.
        direction: Along which it bends down, of length 1, or to the other end.
    """

    excess: float
    error: float
    at: Mapping[str, Tensor] = field(repr=False)
    direction: Mapping[str, Tensor] = field(repr=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Convexity:
    """Whether a problem is convex, how that is known, and what its minima are like.

    Attributes:
        convex: True, False, or None where neither is known.
        strictly: Whether strictly: one minimum at most; None where that is not known.
        proved: Whether `convex` is proved.
        by: "structure" (the parts of the problem), "curvature" (a point at which it bends down), "chord" (one
            that runs below the graph), "samples" (neither was found, which proves nothing).
        why: The reason, in one clause.
        witness: What shows that it is not convex, where something was found.
        minima: "one", "many" (a flat valley), "none" (lower and lower towards infinity); None where that is
            not known.
        optimum: The lowest value, where it is known.
        looked: What was sampled, in words; "" where nothing was.
    """

    convex: bool | None
    strictly: bool | None = None
    proved: bool = False
    by: By = "structure"
    why: str = ""
    witness: Witness | None = None
    minima: Minima | None = None
    optimum: float | None = None
    looked: str = ""

    @property
    def attained(self) -> bool | None:
        """Whether some parameters have the lowest value; None where that is not known."""
        return None if self.minima is None else self.minima != "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; of the witness its size."""
        keys = ("convex", "strictly", "proved", "by", "why", "minima", "optimum", "looked", "attained")
        seen = None if self.witness is None else {
            "excess": self.witness.excess, "error": self.witness.error,
        }  # fmt: skip
        return plain({key: getattr(self, key) for key in keys} | {"witness": seen})

    def __str__(self) -> str:
        head = {True: "convex", False: "not convex", None: "not known to be convex"}[self.convex]
        if self.convex and self.strictly is not None:
            head = "strictly convex" if self.strictly else "convex, not strictly"
        how = f", proved by {self.by}" if self.proved else f", by {self.by}, which proves nothing"
        if self.convex is None and self.by == "structure":
            how = ""
        ends = {"many": "; many minima", "none": "; no minimum is attained", "one": "; one minimum"}
        return f"{head}{how}: {self.why}{ends.get(self.minima or '', '')}"


def convexity(
    problem: Problem, model: Standing = None, *, examples: int = 256, samples: int = 8, seed: int = 0
) -> Convexity:
    """Whether a problem is convex: by its structure where that proves it, else by looking for a witness.

    Args:
        problem: Any.
        model: Another point to look at: a module, a Run, weights or their path.
        examples: Training examples that the loss is taken over where it is sampled, at least 1.
        samples: Points at which curvature is measured, and between which chords are drawn, at least 2.
        seed: Of the points.

    Returns:
        What is known, with the witness, and for what is solved here how many minima there are.

    Raises:
        InputError: an argument outside its domain, or nothing to look at.

    Source: Boyd and Vandenberghe 2004, "Convex optimization", sections 3.1 and 3.2.
    """
    check_asked(problem, None)
    if not isinstance(samples, int) or samples < 2:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"samples={samples!r}: must be at least 2 points")
    given = copied(stand(problem, model, seed)[0]).eval()
    read = structure(problem, given)
    if read.convex or (read.certain and problem.constraint is not None):
        return of_structure(read, problem, given, solve=DENSE)
    ground, _ = standing(problem, given, examples=examples, dtype=torch.float64, seed=seed)
    points = _points(problem, ground, samples, seed)
    found = _by_curvature(ground, points) or _by_chords(ground, points)
    looked = f"{many(len(points), 'point')} and {many(len(points) * (len(points) - 1) // 2, 'chord')}"
    if found is not None:
        by, witness = found
        return Convexity(convex=False, proved=True, by=by, why=said(by, witness, read), witness=witness)
    if read.certain:
        return of_structure(read, problem, given)
    return Convexity(convex=None, by="samples", why=_unseen(looked, read), looked=looked)


def of_structure(
    read: Structure, problem: Problem, model: Any = None, *, solve: int = 0,
    seen: tuple[By, Witness] | None = None,
) -> Convexity:  # fmt: skip
    """What the structure tells, and a witness that is at hand.

    Args:
        read: What the structure tells.
        problem: The problem.
        model: Its model.
        solve: Weights up to which it is computed how many minima there are; 0 for never.
        seen: A witness that was measured, and whether it is a curvature or a chord.
    """
    if isinstance(model, Point) and read.certain:
        return _of_function(model.function, read, None if seen is None else seen[1])
    if not read.convex:
        if seen is not None:
            by, witness = seen
            return Convexity(convex=False, proved=True, by=by, why=said(by, witness, read), witness=witness)
        if read.certain:
            return Convexity(convex=False, proved=True, why=read.why)
        return Convexity(convex=None, by="samples", why=_unseen("this point", read), looked="this point")
    why = f"{read.loss} is convex in the outputs, and they are affine in the weights{_held(model)}"
    minima, optimum = _minima(read.known, problem, model, solve) if read.known is not None else (None, None)
    strictly = {"one": True, "many": False}.get(minima or "")
    return Convexity(convex=True, strictly=strictly, proved=True, why=why, minima=minima, optimum=optimum)


def _unseen(where: str, read: Structure) -> str:
    return f"nothing is seen to bend down at {where}" + (f", though {read.why}" if read.why else "")


def _held(model: Any) -> str:
    """What has to stand still for that: training moves it."""
    parts: list[nn.Module] = list(model.modules()) if isinstance(model, nn.Module) else []
    held = ["the statistics of batch norm"] if any(isinstance(each, _BatchNorm) for each in parts) else []
    if any(isinstance(each, _DropoutNd) and each.p for each in parts):
        held.append("the masks of dropout")
    return f", with {' and '.join(held)} held still, as in prediction" if held else ""


def _of_function(function: Function, read: Structure, witness: Witness | None) -> Convexity:
    """What is known of a test function; every critical point of a convex one is a minimum."""
    minima: Minima | None = None
    if not function.attained:
        minima = "none"
    elif function.whole or function.convex:
        minima = "one" if function.whole and len(function.lowest) == 1 else "many"
    return Convexity(
        convex=read.convex, strictly=False if minima == "many" or _straight(function) else None, proved=True,
        why=f"{function.name} is known to be" if read.convex else read.why, minima=minima,
        optimum=function.infimum if math.isfinite(function.infimum) else None,
        witness=None if read.convex else witness,
    )  # fmt: skip


def _straight(function: Function, chords: int = 64) -> bool:
    """Whether some chord lies on the graph, so that the function is not strictly convex."""
    draw = torch.Generator().manual_seed(0)
    ends = torch.tensor(function.domain, dtype=torch.float64)
    drawn = torch.rand(2, chords, function.dimension, generator=draw, dtype=torch.float64)
    a, b = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * drawn
    chord, graph = (function(a) + function(b)) / 2, function((a + b) / 2)
    rounding = 8 * torch.finfo(torch.float64).eps * (function(a).abs() + function(b).abs())
    return bool(((chord - graph).abs() <= rounding).any())


def _minima(known: Recognised, problem: Problem, model: Any, most: int) -> tuple[Minima | None, float | None]:
    """How many minima there are, and their value, where that is cheap to compute."""
    source, bare = problem.train_source, known.problem
    built = problem.build() if most else None
    weights = 1 if built is None else sum(p.numel() for p in built.parameters() if p.requires_grad)
    if problem.constraint is not None or not isinstance(source, Memory) or weights > most:
        return None, None
    try:
        if isinstance(model, nn.Module) and built is not None and _names(model) != _names(built):
            bare = bare.edit(model=model)  # another model than the problem's own was given
        design = Design(bare, known.loss, known.shape.layer)
        exact = solved(design, known.l2)
    except DownslopeError:
        return None, None
    kinds: dict[str, Minima] = {"strictly-convex": "one", "many-minima": "many", "not-attained": "none"}
    return kinds.get(exact.kind), exact.objective


def _names(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def said(by: str, witness: Witness, read: Structure) -> str:
    """The witness in words."""
    size = f"{numeral(witness.excess)} +- {numeral(witness.error, 2)}"
    what = f"it bends down, {size}" if by == "curvature" else f"a chord runs {size} below the graph"
    return what + (f"; {read.why}" if read.why else "")


def _points(problem: Problem, ground: ModelGround, samples: int, seed: int) -> list[Tensor]:
    """The point itself, starts of other seeds, and both made larger, since nets are nearly linear at zero."""
    here = ground.where()
    points, factors = [here], itertools.cycle((1.0, 2.0, WIDE))
    draw = torch.Generator().manual_seed(seed)
    for i in range(1, samples):
        fresh = dict(problem.build(seed + i).named_parameters())
        parts = [fresh[name].detach().reshape(-1) for name in ground.names if name in fresh]
        start = torch.cat(parts).to(here) if parts else here
        if len(start) != len(here) or torch.equal(start, here):
            size = max(float(here.abs().mean()), 1.0)
            start = here + size * torch.randn(len(here), generator=draw, dtype=torch.float64).to(here)
        points.append(next(factors) * start)
    return points


def _by_curvature(ground: ModelGround, points: list[Tensor]) -> tuple[By, Witness] | None:
    kept = ground.where()
    try:
        for point in points:
            ground.put(point)
            if not math.isfinite(loss := ground.loss()):
                continue
            try:
                found = ends(ground.hessian(), kept, tol=0.05, steps=24)
            except ObjectiveError as error:
                if not lost(error):
                    raise
                continue
            low, error = float(found.values[-1]), float(found.errors[-1]) + cancelled(ground)
            line = profile(ground, found.vectors[-1], reach_of(ground), loss) if low < -error else None
            if line is not None and chord(line, EPS, jitters(ground, loss)) is not None:
                return "curvature", Witness(
                    excess=low, error=error, at=ground.named(point), direction=ground.named(found.vectors[-1])
                )
    finally:
        ground.put(kept)
    return None


def witnessed(
    ground: ModelGround, direction: Tensor, line: Profile, curvature: float, error: float
) -> tuple[By, Witness] | None:
    """What the loss along a direction shows: that it bends down here, or at least a chord below the graph.

    Args:
        ground: At the point; it is put back there.
        direction: Of length 1, flat.
        line: The loss along it.
        curvature: Along it, at the point.
        error: Residual and rounding of `curvature`.
    """
    here = ground.where()
    found = chord(line, torch.finfo(here.dtype).eps, jitters(ground, line.here))
    if found is None:
        return None
    if curvature < -error - cancelled(ground):
        return "curvature", Witness(
            excess=curvature, error=error, at=ground.named(here), direction=ground.named(direction)
        )
    return "chord", _along(ground, here, direction.to(here), found)


def _along(ground: ModelGround, here: Tensor, direction: Tensor, found: Chord) -> Witness:
    return Witness(
        excess=found.excess, error=found.error, at=ground.named(here + found.start * direction),
        direction=ground.named((found.end - found.start) * direction),
    )  # fmt: skip


def _by_chords(ground: ModelGround, points: list[Tensor]) -> tuple[By, Witness] | None:
    kept = ground.where()

    def height(point: Tensor) -> float:
        ground.put(point)
        return ground.loss()

    try:
        heights = [height(each) for each in points]
        for (a, p), (b, q) in itertools.combinations(zip(heights, points, strict=True), 2):
            middle = height((p + q) / 2)
            excess, error = middle - (a + b) / 2, ULPS * EPS * (abs(a) + abs(b) + abs(middle))
            if not (math.isfinite(excess) and excess > error):
                continue
            error += jitters(ground, middle)
            if excess > error:
                return "chord", Witness(
                    excess=excess, error=error, at=ground.named(p), direction=ground.named(q - p)
                )
    finally:
        ground.put(kept)
    return None
