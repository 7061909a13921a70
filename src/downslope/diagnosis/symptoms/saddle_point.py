"""Saddle point. The gradient is nearly zero, and yet there is a way down: one that the gradient does not
point.

A user sees a loss that stands still for long, and may drop all at once later. At a saddle the slope vanishes
while some curvature is negative; descent creeps along, because its step is the slope. Symmetric weights put a
run there for good. How we know: the smallest eigenvalue of the Hessian at the last weights is negative beyond
its residual and beyond what the largest leaves to chance, and the slope is nearly nothing. What looks like it
and is not: a little negative curvature in a run on its way down, which nearly every net has.
Source: Dauphin et al. 2014, Identifying and attacking the saddle point problem; Sagun et al. 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Edit, Reinitialise, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

NEGATIVE = 0.05
"""Smallest eigenvalue, negated, in the largest magnitude of one; nets on their way down have about 0.05."""

STILL = 0.02
"""What the slope wins over a move by a tenth of the weights' size, as a share of the way."""

FLAT = 0.01
"""What the negative curvature wins over the same move, as a share of the way, below which the ground is a
plateau. Convention, that of `plateau`."""

_SOURCE = "Dauphin et al. 2014"


@symptom(
    "saddle-point",
    title="the run rests on a saddle",
    order=("terrain", 1),
    needs=("ground",),
    source=_SOURCE,
)
def saddle_point(run: Run) -> Verdict:
    """Negative curvature and almost no slope at the end of a run far from what is reachable."""
    ground: Mapping[str, Any] = run.facts["ground"]
    how = progress(run)
    low, high = float(ground["lambda_min"]), float(ground["lambda_max"])
    most = max(abs(low), abs(high), 1e-300)
    share = -low / most
    said = f"the curvatures lie between {low:.2g} and {high:.2g}"
    if not (share >= NEGATIVE and -low >= 2 * float(ground["lambda_min_residual"])):
        return Clear(said)
    way = abs((how.constant or 0.0) - (how.reachable or 0.0))
    reach = float(ground["reach"])
    slope = reach * float(ground["grad_norm"])
    if way > 0 and -0.5 * low * reach**2 < FLAT * way:
        return Clear(f"{said}, too small to lead anywhere: flat ground")
    if way > 0 and slope > STILL * way:
        return Clear(f"{said}, and the slope of {ground['grad_norm']:.2g} leads on")
    if not how.ended_far:
        return Clear(f"{said}, and the run came far enough")
    severity = settle(run, "saddle-point", strong=how.standing)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'saddle-point')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="saddle-point",
        title="the run rests on a saddle",
        severity=severity,
        evidence=Evidence(
            name="smallest eigenvalue of the Hessian, negated, in the largest magnitude",
            value=share,
            threshold=NEGATIVE,
            provenance="about 0.05 in nets on their way down (Sagun et al. 2018); bench/diagnosis",
        ),
        also=proved(run, "saddle-point"),
        message=f"At the last weights the slope is {ground['grad_norm']:.2g} and {said}: there is a way down "
        f"that "
        f"the gradient does not point.{tried(run, 'saddle-point')}",
        remedies=_remedies(),
        source=_SOURCE,
    )


def _remedies() -> tuple[Edit, ...]:
    redraw = Reinitialise("auto")
    momentum = SetRecipe({"optimizer": "adam", "lr": 1e-3})
    return redraw, momentum
