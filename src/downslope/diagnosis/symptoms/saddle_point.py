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

from downslope.core.edits import Edit, Reinitialise, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.footing import footing
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.terrain.surveys.kind import FLAT

NEGATIVE = 0.05
"""Smallest eigenvalue, negated, in the largest magnitude of one; nets on their way down have about 0.05."""

STILL = 0.02
"""What the slope wins over a move by a tenth of the weights' size, as a share of the way: a bound, not the
gain that `survey` measures, whose limit is lower."""

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
    here, how = footing(run, still=STILL, negative=NEGATIVE), progress(run)
    view, said = here.view, here.curvatures
    share = -view.low / max(abs(view.low), abs(view.high), 1e-300)
    if not (share >= NEGATIVE and -view.low >= view.low_error):
        return Clear(said)
    if here.flat or here.bend < FLAT:
        return Clear(f"{said}, too small to lead anywhere: flat ground")
    slope = float(run.facts["ground"]["grad_norm"])
    if here.judged.kind not in ("saddle", "maximum"):
        return Clear(f"{said}, and the slope of {slope:.2g} leads on")
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
        message=f"At the last weights the slope is {slope:.2g} and {said}: there is a way down that "
        f"the gradient does not point.{tried(run, 'saddle-point')}",
        remedies=_remedies(),
        source=_SOURCE,
    )


def _remedies() -> tuple[Edit, ...]:
    redraw = Reinitialise("auto")
    momentum = SetRecipe({"optimizer": "adam", "lr": 1e-3})
    return redraw, momentum
