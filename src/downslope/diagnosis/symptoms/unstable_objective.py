"""Unstable objective. The loss itself leaves the finite numbers while outputs, weights and data are finite.

A user sees NaN or infinity from one step to the next, often late, when the model becomes sure of itself. The
logarithm of a softmax that rounds to 0, an exponential of a large score, a root or a quotient at 0: the
formula is right, its arithmetic is not; log-sum-exp, and losses on scores instead of probabilities, do not
round. What looks like it and is not: weights that a large step threw out of the finite numbers first, and NaN
in the data.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 4.1; Blanchard, Higham and Higham 2021,
Accurately computing the log-sum-exp and softmax functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetObjective
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.early import sudden
from downslope.diagnosis.named import named
from downslope.diagnosis.proof import proved, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "Goodfellow et al. 2016, section 4.1; Blanchard et al. 2021"


@symptom(
    "unstable-objective",
    title="the loss overflows or divides by zero",
    order=("output", 2),
    needs=("objective",),
    explains=("learning-rate-too-high", "exploding-gradient", "cliff", "init-scale", "unscaled-targets"),
    source=_SOURCE,
)
def unstable_objective(run: Run) -> Verdict:
    """The run ended in a loss that is not finite, of outputs that are, and the objective breaks on scores."""
    objective: Mapping[str, Any] = run.facts["objective"]
    if objective.get("gradient", 0.0) is None or "value" not in objective:
        return Unknown("the objective gives no gradient")
    if objective.get("watched"):
        why: Mapping[str, str] = run.facts.get("not_measured") or {}
        return Unknown(why.get("", "needs measurements of its own, which ds.diagnose makes"))
    breaks = objective.get("breaks")
    ended: Mapping[str, Any] = run.facts.get("nonfinite") or {}
    inside = ended.get("what") == "loss" or (ended.get("what") == "gradient" and breaks is not None)
    inside = inside or (bool(ended) and objective.get("sound") is False)
    if not ended:
        would = "" if breaks is None else f"; scores of size {breaks:g} would break it"
        return Clear("the loss stayed finite" + would)
    if not inside:
        return Clear(f"the first value that is not finite is the {ended.get('what')}")
    if breaks is None and objective.get("sound") is not False and not sudden(run):
        return Clear("the loss rose before it left the finite numbers: the step did that, not the formula")
    step = ended.get("step")
    name = named(run)
    edits: tuple[Edit, ...] = (SetObjective(name),) if name else ()
    at = f"on scores of size {breaks:g}" if breaks is not None else "on outputs as the model made them"
    return Finding(
        symptom="unstable-objective",
        title="the loss overflows or divides by zero",
        severity="critical",
        where=Where(steps=(max(int(step), 1), max(int(step), 1)) if step is not None else None),
        evidence=Evidence(
            name="size of the scores at which the loss or its derivative is not finite",
            value=float(breaks or 0.0),
            threshold=300.0,
            unit="standard deviations of a drawn output",
            provenance="scores of a net in training reach some hundreds",
        ),
        also=proved(run, "unstable-objective"),
        message=f"The {ended.get('what')} left the finite numbers at step {step} while data, weights and "
        f"output were finite: the objective breaks {at}.{tried(run, 'unstable-objective')}",
        remedies=(
            *edits,
            Advice(
                "log_softmax or logsigmoid of the scores instead of the log of a probability; eps under "
                "roots and quotients"
            ),
        ),
        source=_SOURCE,
    )
