"""Constant target. Every example has the same answer, so there is nothing to learn.

A user sees a loss that falls to zero, or an accuracy of 1, at once, and a model that says one thing. A wrong
column, a filter that left one class, or labels that were overwritten. What looks like it and is not: classes
that are unequal but present, and an autoencoder's inputs.
Source: none is needed; the best constant prediction is then perfect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "by definition: the best constant prediction is perfect"


@symptom(
    "constant-target",
    title="the target is the same for every example",
    order=("data", 1),
    needs=("data",),
    explains=("data", "output", "model", "step", "terrain", "generalisation"),
    source=_SOURCE,
)
def constant_target(run: Run) -> Verdict:
    """The training targets take one value only."""
    target: Mapping[str, Any] | None = run.facts["data"].get("target")
    if target is None:
        return Unknown("the targets were not seen, or are no tensor")
    if not target.get("constant"):
        return Clear(f"the target takes {target.get('distinct')} values")
    value = target.get("min")
    return Finding(
        symptom="constant-target",
        title="the target is the same for every example",
        severity="critical",
        evidence=Evidence(
            name="different values of the target",
            value=float(target.get("distinct") or 0),
            threshold=2.0,
            unit="values",
            provenance="one value leaves nothing to learn",
        ),
        message=f"The target is {value if value is None else format(value, 'g')} for every training example: "
        f"a "
        "constant is a perfect answer, and no model can learn more.",
        remedies=(Advice("check the target column, and the filter or the labels that it comes from"),),
        source=_SOURCE,
    )
