"""Plateau. The ground is flat in every direction, far from the bottom.

A user sees a loss that stands still although nothing is broken. The gradient is small because the surface is
level there: units at their flat ends, scores that have run far apart. How we know: slope and curvature at the
last weights are both so small that the steps which are left could not lower the loss. What looks like it and
is not: a minimum, where the curvature is not small, a saddle, where some of it is negative, and a rate too
low.
Source: Goodfellow, Bengio and Courville 2016, section 8.2.3; Dauphin et al. 2014.
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

_SOURCE = "Goodfellow et al. 2016, section 8.2.3"


@symptom(
    "plateau",
    title="the run stands on flat ground",
    order=("terrain", 0),
    needs=("ground",),
    source=_SOURCE,
)
def plateau(run: Run) -> Verdict:
    """Slope and curvature at the end are too small to lead anywhere, far from what is reachable."""
    here, how = footing(run), progress(run)
    share = here.judged.change
    said = f"a move by a tenth of the weights' size could change the loss by {share:.2g} of the way"
    if not (here.flat and here.way):
        return Clear(said)
    if not how.ended_far:
        return Clear(f"{said}, and the run had arrived")
    severity = settle(run, "plateau", strong=how.standing)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'plateau')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="plateau",
        title="the run stands on flat ground",
        severity=severity,
        evidence=Evidence(
            name="what a move by a tenth of the weights' size could change, by slope and curvature",
            value=share,
            threshold=FLAT,
            unit="share of the way",
            provenance="convention: second-order model of the loss at the last weights",
        ),
        also=proved(run, "plateau"),
        message=f"At the last weights the slope is {run.facts['ground']['grad_norm']:.2g} and "
        f"{here.curvatures}: flat ground.{tried(run, 'plateau')}",
        remedies=_remedies(),
        source=_SOURCE,
    )


def _remedies() -> tuple[Edit, ...]:
    redraw = Reinitialise("auto")
    adam = SetRecipe({"optimizer": "adam", "lr": 1e-3})
    return (redraw, adam)
