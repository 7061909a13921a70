"""Non-differentiable. No gradient reaches the weights, or a gradient that is zero everywhere.

A user sees a loss that does not move at all, or torch's "does not require grad". An accuracy, an argmax, a
rounding or a sign is flat almost everywhere: its derivative is zero, and says nothing. A detach, .item(),
numpy or no_grad between the model and the loss cuts the graph. What looks like it and is not: parameters that
are frozen on purpose, an output layer that starts at zero, and units that are all dead.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 8.1.2 (surrogate losses).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetObjective
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.surrogate import surrogate
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "Goodfellow et al. 2016, section 8.1.2"


@symptom(
    "non-differentiable",
    title="the objective gives no gradient",
    order=("output", 0),
    needs=("objective",),
    explains=("output", "model", "step", "terrain", "generalisation"),
    source=_SOURCE,
)
def non_differentiable(run: Run) -> Verdict:
    """The derivative of the objective by the model's output does not exist, or is zero wherever one looks."""
    objective: Mapping[str, Any] = run.facts["objective"]
    if "gradient" not in objective:
        return Unknown("the objective could not be called")
    gradient = objective["gradient"]
    if gradient:
        return Clear(f"the derivative of the objective by the output is {gradient:.3g}")
    cut = gradient is None
    return Finding(
        symptom="non-differentiable",
        title="the objective gives no gradient",
        severity="critical",
        evidence=Evidence(
            name="derivative of the objective by the model's output",
            value=0.0,
            threshold=0.0,
            unit="root mean square over the outputs of a batch, at three outputs",
            provenance="a slope of zero everywhere leads nowhere",
        ),
        message="The objective is cut off from the model's output (detach, argmax, .item(), numpy, no_grad): "
        "no gradient comes back."
        if cut
        else "The objective is flat: a small change of the output does not change it (argmax, round, sign, a "
        "comparison), so every gradient is zero.",
        remedies=_remedies(run, cut=cut),
        source=_SOURCE,
    )


def _remedies(run: Run, *, cut: bool) -> tuple[Edit, ...]:
    name = surrogate(run)
    words = "compute the loss from the model's output by differentiable operations only"
    if not cut:
        words = "train on a smooth stand-in and keep this one as the metric"
    return (*((SetObjective(name),) if name else ()), Advice(words))
