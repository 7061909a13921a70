"""The way out of a critical point that is no minimum: along negative curvature."""

from __future__ import annotations

import torch

from downslope.terrain.ground import Ground
from downslope.terrain.lanczos import lanczos
from downslope.terrain.methods.line_search import Line, Trial
from downslope.terrain.methods.method import PRECISE, Here, Step

STEPS = 40
"""Products that the look for negative curvature may take."""

LEVEL = "converged: the gradient is zero"


def leave(ground: Ground, here: Here, done: Step) -> Step:
    """The step out of where a method has converged, along negative curvature; `done` if there is none.

    Lanczos looks for the most negative eigenvalue from a vector drawn at random; the point a step t along its
    eigenvector has to keep a quarter of the promised ``lambda t^2 / 2`` (Moré and Sorensen 1979, Mathematical
    Programming 16).

    Args:
        ground: At the point.
        here: The point.
        done: What the method made of it.
    """
    ground.put(here.x)
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(ground.size, generator=draw, dtype=torch.float64).to(here.gradient)
    operator = ground.hessian()
    found = lanczos(operator.product, start, steps=STEPS, tol=1e-2, which="bottom")
    floor = torch.finfo(start.dtype).eps ** 0.5 * abs(found.top.value)
    bottom, products = found.bottom, done.products + found.iterations
    if not bottom.value + bottom.residual < 0 or bottom.value >= -floor:
        return done._replace(products=products)
    line = Line(ground, here.x, bottom.vector, here.value, here.gradient)
    trial = _down(line, bottom.value)
    looks = done.evaluations + line.evaluations
    if trial is None:
        ground.put(here.x)
        return done._replace(products=products, evaluations=looks)
    said = f"left a saddle along negative curvature ({bottom.value:.2g})"
    return Step(here.value, looks, products, True, said)


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
