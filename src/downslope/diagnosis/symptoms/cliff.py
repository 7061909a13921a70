"""Cliff. All goes well until one step over an edge, where the gradient is a hundred times as large as before.

A user sees a loss that falls, leaps up within one step, and may never come back. Where many layers or time
steps multiply, the loss has walls; a step of the usual rate with the gradient of a wall undoes what was
learnt. What looks like it and is not: a rate that is too high from the first step, a single hard batch, after
which the loss is what it was, and a loss that leaves the finite numbers because of its own formula.
Source: Pascanu, Mikolov and Bengio 2013, section 2.3; Goodfellow, Bengio and Courville 2016, section 8.2.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.core.edits import Edit, SetRecipe
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.clipped import bounded
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried, trying
from downslope.diagnosis.rates import own_rate
from downslope.diagnosis.swing import LEAP, leap, thrown_back
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "Pascanu, Mikolov and Bengio 2013, section 2.3"


@symptom(
    "cliff",
    title="a single step threw the loss up",
    order=("step", 4),
    needs=("history:train_loss",),
    explains=("dead-units", "saturated-units", "oscillation", "high-bias"),
    source=_SOURCE,
)
def cliff(run: Run) -> Verdict:
    """After a good start one step raises the loss many times over, and the run ends far from the best."""
    found, how = leap(run), progress(run)
    if found is None or found.times < LEAP:
        times = f"{1.0 if found is None else max(found.times, 1.0):.2g}"
        more = "" if times == "1" else f" more than {times} times"
        return Clear(f"no step raised the loss{more}")
    if not found.lasts:
        return Clear(
            f"step {found.step} raised the loss {found.times:.3g} times, and the next ones did not stay up"
        )
    much = "beyond all numbers" if math.isinf(found.times) else f"{found.times:.3g} times"
    said = f"step {found.step} raised the loss {much}"
    if not how.ended_far and not thrown_back(run):
        return Clear(f"{said}, and the run recovered")
    before = run.history.series("train_loss")
    best = float(np.nanmin(before.values[: max(1, int((before.steps < found.step).sum()))]))
    if how.constant is not None and best > 0.8 * how.constant:
        return Clear(f"{said}, before anything was learnt")
    severity = settle(run, "cliff", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'cliff')}")
    if severity == "info" and (not trying(run) or answered(run)):
        return Unknown(not_tried(run))
    return Finding(
        symptom="cliff",
        title="a single step threw the loss up",
        severity=severity,
        where=Where(steps=(max(found.step, 1), max(found.step, 1))),
        evidence=Evidence(
            name="loss after one step in the median of the twenty before",
            value=found.times,
            threshold=LEAP,
            provenance="convention; and the loss stays above all twenty for ten steps",
        ),
        also=(*_seen(run), *proved(run, "cliff")),
        message=f"{said[0].upper()}{said[1:]}, after it had fallen to {best:.3g}."
        f"{_wall(run)}{tried(run, 'cliff')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _raised(run: Run) -> Mapping[str, Any] | None:
    """The fact ``wall``, where the step raised the loss of fixed examples as well."""
    wall: Mapping[str, Any] | None = run.facts.get("wall")
    if not wall:
        return None
    return wall if wall["happened"] is None or wall["happened"] > 0 else None


def _wall(run: Run) -> str:
    """What the terrain said of that step, where it was taken once more."""
    wall = _raised(run)
    if wall is None:
        return ""
    foretold, slope = wall["foretold"], wall["slope"]
    said = f" Step {wall['step']} moved the weights by {wall['share']:.2g} of their length"
    if slope is not None and foretold is not None:
        said += f", where the slope promised {slope:+.2g} and slope and curvature foretold {foretold:+.2g}"
    rose = "left the numbers" if wall["happened"] is None else f"rose by {wall['happened']:.2g}"
    return f"{said}: the loss of fixed examples {rose}."


def _seen(run: Run) -> tuple[Evidence, ...]:
    wall = _raised(run)
    if wall is None:
        return ()
    happened = math.inf if wall["happened"] is None else float(wall["happened"])
    name = f"change of the loss of fixed examples by step {wall['step']}"
    why = "a batch that is hard by itself changes nothing there"
    return (Evidence(name=name, value=happened, threshold=0.0, provenance=why),)


def _remedies(run: Run) -> tuple[Edit, ...]:
    lr = own_rate(run)
    edits: list[Edit] = []
    if not bounded(run):
        edits.append(SetRecipe({"clip_norm": 1.0}))
    if lr:
        edits.append(SetRecipe({"lr": float(f"{lr / 5:.2g}")}, {"lr": lr}))
    return tuple(edits)
