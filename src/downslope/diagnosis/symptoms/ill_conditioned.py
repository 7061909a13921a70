"""Ill-conditioned. The valley is steep across and nearly level along: no one rate suits both.

A user sees a fast fall that soon turns into a crawl; a larger rate makes it diverge, a smaller one crawl
more. The steepest curvature limits the rate, and along the others the steps are as many times too small as
the condition number. How we know: the curvatures at the end are orders of magnitude apart and the rate stands
near the limit of the steepest, or the inputs themselves spread so unevenly that descent would need more
steps than there were; and a trial with a scaled method, or with whitened inputs, comes much further.
What looks like it and is not: the spread of curvatures of any trained net, which does no harm by itself.
Source: LeCun, Bottou, Orr and Mueller 1998, sections 4.3 and 5; Goodfellow, Bengio and Courville 2016,
section 8.2.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Edit, SetRecipe, WhitenInputs
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.measure.spread import UNEVEN, narrow
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried, trying
from downslope.diagnosis.rates import own_rate
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom

NEAR = 0.1
"""lr x lambda_max / 2 from which the steepest direction limits the rate: a rate ten times as large is beyond
the limit."""

_PLAIN = ("sgd", "gd", "momentum", "nesterov")
_SOURCE = "LeCun et al. 1998, sections 4.3 and 5; Goodfellow et al. 2016, section 8.2.1"


@symptom(
    "ill-conditioned",
    title="the valley is steep across and level along",
    order=("terrain", 2),
    explains=("too-few-steps", "high-bias"),
    source=_SOURCE,
)
def ill_conditioned(run: Run) -> Verdict:
    """A method held up by its steepest direction, far from what a scaled one or scaled inputs would reach."""
    condition = narrow(run)
    if condition is not None:
        return _inputs(run, condition)
    if (reason := missing(run, "ground")) is not None:
        return Unknown(reason)
    ground: Mapping[str, Any] = run.facts["ground"]
    lr = own_rate(run)
    name = None if run.recipe is None else str(run.recipe.optimizer)
    if name not in _PLAIN or lr is None:
        return Clear("the method scales each direction by itself")
    ratio = lr * max(float(ground["lambda_max"]), 0.0) / 2
    error = lr * float(ground.get("lambda_max_error") or 0.0) / 2
    off = f" +- {error:.1g}" if error >= 0.005 * ratio > 0 else ""
    said = f"lr x lambda_max / 2 is {ratio:.2g}{off} at the end"
    if not ratio >= NEAR:
        return Clear(f"{said}: the steepest direction does not limit the rate")
    how = progress(run)
    if not how.ended_far or how.diverged:
        return Clear(f"{said}, and the run came far enough" if not how.diverged else "the run diverged")
    severity = settle(run, "ill-conditioned", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'ill-conditioned')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="ill-conditioned",
        title="the valley is steep across and level along",
        severity=severity,
        evidence=Evidence(
            name="lr x lambda_max / 2 at the last weights",
            value=ratio,
            threshold=NEAR,
            provenance="1 is the stable limit of plain descent",
        ),
        also=proved(run, "ill-conditioned"),
        message=f"The steepest direction (lambda_max {ground['lambda_max']:.3g}{_error(ground)}) leaves no "
        f"room for a larger rate, and along the others the steps are too small."
        f"{tried(run, 'ill-conditioned')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _inputs(run: Run, condition: float) -> Verdict:
    """Inputs that lie in a narrow valley whatever the weights; a trial with whitened ones decides."""
    said = f"the widest direction of the inputs has {condition:.2g} times the variance of the narrowest"
    how = progress(run)
    if how.solved or how.diverged:
        return Clear(f"{said}, and the run is solved" if how.solved else "the run diverged")
    if not trying(run):
        return Unknown(not_tried(run))
    severity = settle(run, "ill-conditioned", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'ill-conditioned')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="ill-conditioned",
        title="the valley is steep across and level along",
        severity=severity,
        evidence=Evidence(
            name="condition number of the correlations of the inputs",
            value=condition,
            threshold=max(UNEVEN, float(run.summary.get("steps") or 0)),
            provenance="descent at its limit needs as many steps (Goodfellow et al. 2016, section 4.3)",
        ),
        also=proved(run, "ill-conditioned"),
        message=f"{said[0].upper()}{said[1:]}: along the narrow ones {run.summary.get('steps')} steps are "
        f"next to none.{tried(run, 'ill-conditioned')}",
        remedies=(WhitenInputs(), *_remedies(run)),
        source=_SOURCE,
    )


def _error(ground: Mapping[str, Any]) -> str:
    error = ground.get("lambda_max_error")
    return f" +- {error:.1g}" if error else ""


def _remedies(run: Run) -> tuple[Edit, ...]:
    """Momentum, which counts for the square root of the condition number; else a scaled method."""
    if run.recipe is None or str(run.recipe.optimizer) not in _PLAIN:
        return ()
    recipe, adam = run.recipe, SetRecipe({"optimizer": "adam", "lr": 1e-2})
    plain = recipe.optimizer in ("sgd", "gd") and not recipe.settings.get("momentum")
    momentum = SetRecipe({"optimizer": "sgd", "momentum": 0.9})
    return (momentum, adam) if plain else (adam,)
