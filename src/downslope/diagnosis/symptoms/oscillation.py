"""Oscillation. The steps swing to and fro across a valley, or round it, and hardly come down.

A user sees a loss that goes up and down in waves of one height. Beyond its stable limit a step overshoots and
comes back, every second step; with a momentum near 1 the weights swing like a pendulum without friction, in
long waves, of which a run may see half a one: down, and up again for good, because units die on the far side.
What looks like it and is not: the noise of small batches, which has no period, and the edge of stability,
where the loss falls in spite of its ripple.
Source: Polyak 1964; O'Donoghue and Candes 2015, Adaptive restart for accelerated gradient schemes, section 2.
"""

from __future__ import annotations

from downslope.core.edits import Edit, SetRecipe
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried, trying
from downslope.diagnosis.rates import HEAVY, lighter, momentum_of, own_rate
from downslope.diagnosis.swing import swing, thrown_back
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

REGULAR = 0.5
"""Autocorrelation of the loss after one period. The largest of 400 drawn white noises of 200 steps has
0.22."""

HEIGHT = 0.02
"""Deviation of the loss about its trend, in the way from the constant to what is reachable."""

_SOURCE = "Polyak 1964; O'Donoghue and Candes 2015, section 2"


@symptom(
    "oscillation",
    title="the steps swing to and fro",
    order=("step", 3),
    needs=("history:train_loss",),
    explains=(
        "dead-units",
        "saturated-units",
        "learning-rate-too-high",
        "high-bias",
        "plateau",
        "too-few-steps",
        "ill-conditioned",
    ),
    source=_SOURCE,
)
def oscillation(run: Run) -> Verdict:
    """The loss swings with a period in the last steps of a run that ended far from what is reachable."""
    found, how = swing(run), progress(run)
    if lighter(run) is not None and thrown_back(run):
        return _half_a_wave(run)
    if found is None:
        return Clear("the loss has no regular wave at the end")
    said = f"the loss swings with a period of {found.period} steps (autocorrelation {found.strength:.2f})"
    if found.strength < REGULAR or min(found.depth, found.again) < REGULAR / 2:
        return Clear(f"{said}, too weak for a wave")
    if not how.ended_far and not thrown_back(run):
        return Clear(f"{said}, and the run came far enough")
    if found.period == _epoch(run):
        return Clear(f"{said}, the steps of an epoch: the order of the data, not the step")
    way = abs((how.constant or 0.0) - (how.reachable or 0.0))
    if way > 0 and found.amplitude < HEIGHT * way:
        return Clear(f"{said}, of a height that does not matter")
    severity = settle(run, "oscillation", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'oscillation')}")
    if severity == "info" and (not trying(run) or answered(run)):
        return Unknown(not_tried(run))
    return Finding(
        symptom="oscillation",
        title="the steps swing to and fro",
        severity=severity,
        where=Where(steps=_last(run)),
        evidence=Evidence(
            name="autocorrelation of the loss after one period",
            value=found.strength,
            threshold=REGULAR,
            unit=f"correlation, period {found.period} steps",
            provenance="0.22 at most in 400 drawn white noises of 200 steps",
        ),
        also=proved(run, "oscillation"),
        message=f"{said[0].upper()}{said[1:]} and comes down no further.{tried(run, 'oscillation')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _half_a_wave(run: Run) -> Verdict:
    """A heavy momentum carried the run down and up again; a trial with a usual one decides."""
    momentum = momentum_of(run)
    said = f"with a momentum of {momentum:g} the loss came down and went up again for good"
    severity = settle(run, "oscillation", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'oscillation')}")
    if severity == "info" and (not trying(run) or answered(run)):
        return Unknown(not_tried(run))
    return Finding(
        symptom="oscillation",
        title="the steps swing to and fro",
        severity=severity,
        where=Where(steps=_last(run)),
        evidence=Evidence(
            name="step in the long run, in steps without momentum",
            value=1 / max(1 - momentum, 1e-9),
            threshold=1 / (1 - HEAVY),
            provenance="1 / (1 - b); 10 is usual",
        ),
        also=proved(run, "oscillation"),
        message=f"{said[0].upper()}{said[1:]}.{tried(run, 'oscillation')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _epoch(run: Run) -> int | None:
    """Steps of an epoch of several batches; None where that is not known."""
    steps = run.history.series("epoch").steps
    each = int(steps[-1] - steps[-2]) if len(steps) > 1 else 0
    return each if each > 2 else None


def _last(run: Run) -> tuple[int, int]:
    steps = run.history.series("train_loss").steps
    return max(1, int(steps[max(0, len(steps) - 200)])), max(1, int(steps[-1]))


def _remedies(run: Run) -> tuple[Edit, ...]:
    lr, light = own_rate(run), lighter(run)
    edits: list[Edit] = [] if light is None else [light]
    if lr:
        edits.append(SetRecipe({"lr": float(f"{lr / 5:.2g}")}, {"lr": lr}))
    return tuple(edits)
