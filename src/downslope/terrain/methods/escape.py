"""The way out of a critical point that is no minimum: along negative curvature."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.terrain.ground import Ground
from downslope.terrain.hvp import length
from downslope.terrain.krylov import Krylov
from downslope.terrain.lanczos import Ritz
from downslope.terrain.methods.line_search import ROUNDINGS, Line, Trial, dot, rounding
from downslope.terrain.methods.step import LEVEL, PRECISE, Here, Step
from downslope.terrain.surveys.confirmed import chord, jitters
from downslope.terrain.surveys.kinks import kinks
from downslope.terrain.surveys.profile import profile
from downslope.terrain.surveys.reach import reach_of

FAR = 30.0
"""Roundings of the loss that a slope has to win to be one."""

REACH = 0.1
"""Share of the weights' length within which a slope has to win them."""

STEPS, FEWEST = 40, 5
"""Products that the look for negative curvature may take, and those after which it may find none."""


def leave(ground: Ground, here: Here, done: Step, steepest: float = 0.0) -> Step:
    """The step out of where a method has converged, along negative curvature; `done` if there is none.

    Lanczos looks for the most negative eigenvalue from a vector drawn at random; the point a step t along its
    eigenvector has to keep a quarter of the promised ``lambda t^2 / 2`` (Moré and Sorensen 1979, Mathematical
    Programming 16).

    Args:
        ground: At the point.
        here: The point.
        done: What the method made of it.
        steepest: Length of the largest gradient so far, by whose rounding curvature is judged.
    """
    ground.put(here.x)
    bottom, spent = _lowest(ground, steepest)
    products = done.products + spent
    if bottom is None:
        return done._replace(products=products)
    line = Line(ground, here.x, bottom.vector, here.value, here.gradient)
    trial = _down(line, bottom.value)
    looks = done.evaluations + line.evaluations
    if trial is None:
        ground.put(here.x)
        return done._replace(products=products, evaluations=looks, said=_stands(bottom.value))
    said = f"left a saddle along negative curvature ({bottom.value:.2g})"
    return Step(here.value, looks, products, True, said)


def saddle(ground: Ground, done: Step, steepest: float = 0.0) -> Step:
    """What a method has made of a point where it has converged, with a word where that is a saddle."""
    bottom, products = _lowest(ground, steepest)
    if bottom is None:
        return done._replace(products=done.products + products)
    return done._replace(products=done.products + products, said=_stands(bottom.value))


def sloped(ground: Ground, done: Step, gradient: Tensor, steepest: float) -> Step | None:
    """The word where a method finds no point below on ground that is no critical point; None where it is one.

    Along the slope the loss falls by ``min((g^T g)^2 / (2 g^T H g), |g| r)``, r a tenth of the weights'
    length, were it smooth. Where that is far beyond rounding, there is a kink, or a valley so narrow that
    this precision cannot tell the way along it.

    Args:
        ground: At the point.
        done: What the method made of it.
        gradient: There.
        steepest: Length of the largest gradient so far, whose rounding is no slope.
    """
    square = dot(gradient, gradient)
    if math.sqrt(square) <= ROUNDINGS * torch.finfo(gradient.dtype).eps * steepest:
        return None
    bend = dot(gradient, ground.hessian().product(gradient))
    within = math.sqrt(square) * REACH * (length(ground.where()) or 1.0)
    wins = min(square * square / (2 * bend), within) if bend > 0 else within
    if not wins > FAR * rounding(done.loss, gradient.dtype):
        return None
    met = kinks(ground.loss)
    at = f", {met.at} of {met.entries} entries at one" if met.at else ""
    why = (
        f"the loss has kinks ({', '.join(met.names)}{at}), between which no derivative tells where it goes "
        "down; lbfgs comes nearest, adam with a falling rate gets by"
        if met.names
        else "the valley is narrower than this precision tells; precision='float64' or levenberg-marquardt "
        "go on"
    )
    said = f"stands still on a slope (|g| = {math.sqrt(square):.2g}): {why}"
    return done._replace(products=done.products + 1, accepted=False, converged=False, said=said)


def _stands(value: float) -> str:
    return (
        f"no slope: it stands at a saddle (smallest eigenvalue {value:.2g}); saddle-free-newton, "
        "trust-region and newton-cg leave it"
    )


def _lowest(ground: Ground, steepest: float) -> tuple[Ritz | None, int]:
    """A most negative eigenpair, where there is one beyond rounding, and the products that it took.

    Rounding is that of the largest curvature here, and of the steepest gradient over the weights' length: a
    loss that has all but vanished is made of parts as large as they ever were.

    The look ends where the residual of the lowest Ritz value is within a tenth of it, below zero at once and
    above it after FEWEST products: over spectra of 30 to 2,000 eigenvalues with one below zero that ended as
    surely as a residual of a hundredth, and in half the products; half the value missed one in five.
    """
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(ground.size, generator=draw, dtype=torch.float64).to(ground.params[0])
    space = Krylov(ground.hessian().product, start, min(STEPS, ground.size))
    low, residual, floor = 0.0, math.inf, 0.0
    while not space.full:
        space.grow()
        if space.lost:
            return None, space.products
        pairs = space.ritz()
        low, residual = float(pairs.values[0]), float(pairs.residuals[0])
        floor = torch.finfo(start.dtype).eps ** 0.5 * float(pairs.values.abs().max())
        known = abs(low) > floor and residual <= 0.1 * abs(low)
        if space.broken or (known and (low < 0 or space.count >= FEWEST)):
            break
    past = ROUNDINGS * torch.finfo(start.dtype).eps * steepest / (length(ground.where()) or 1.0)
    if not low < -max(floor, residual, past):
        return None, space.products
    vector = space.vectors(space.ritz().coordinates[:, :1])[0]
    if not _bends(ground, vector):
        return None, space.products
    return Ritz(low, residual, vector), space.products


def _bends(ground: Ground, vector: Tensor) -> bool:
    """Whether the loss itself bends down along it, and not only what rounding has left of its curvature."""
    loss = ground.loss()
    line = profile(ground, vector, reach_of(ground), loss)
    return chord(line, torch.finfo(vector.dtype).eps, jitters(ground, loss)) is not None


def _down(line: Line, curvature: float) -> Trial | None:
    t = 1.0 if line.start.slope <= 0 else -1.0
    for _ in range(10):
        trial = line.at(t)
        if trial.finite and trial.value <= line.start.value + 0.125 * curvature * t * t:
            return trial
        t /= 2
    return None


def converged(step: Step) -> bool:
    """Whether a step found nothing to do where slopes tell, so that curvature is to be looked at."""
    return step.converged and (step.said.endswith(LEVEL) or step.said.endswith(PRECISE))
