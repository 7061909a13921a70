"""Learning rate too high. The loss explodes, hops about, or stands at that of a constant guess.

A step of plain descent overshoots in every direction whose curvature exceeds 2 / lr; other methods have
limits of their own (`downslope.optim.stability`). Beyond the limit at the start the weights are thrown far
away, and units die on the way. What looks like it and is not: training at the edge of stability, where the
sharpness hovers at the limit and the loss still falls; unscaled inputs, which make any rate too high.
Source: LeCun et al. 1998, section 4.6; Cohen et al. 2021, Gradient descent typically occurs at the edge of
stability.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.edits import SetRecipe
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.clipped import bounded
from downslope.diagnosis.early import (
    OPENING,
    QUENCHED,
    RISEN,
    SPIKE,
    killed,
    quenched,
    risen,
    spike,
    sudden,
    thrown,
    tossed,
    wrecked,
)
from downslope.diagnosis.progress import Progress, progress, table
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, trial_of, tried, trying
from downslope.diagnosis.rates import USUAL, best_rate, guessed, lighter, own_rate, rates_tried
from downslope.diagnosis.swing import thrown_back
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

SHARP = 2.0
"""lambda_max before the first step in the method's stable limit; to 1 a step is safe, a little more
recovers."""

SUDDEN = "the loss left the finite numbers from one step to the next, thrown up by no step that is too large"

_SOURCE = "LeCun et al. 1998, section 4.6; Cohen et al. 2021"


@symptom(
    "learning-rate-too-high",
    title="learning rate too high",
    order=("step", 0),
    needs=("history:train_loss",),
    explains=(
        "exploding-gradient", "vanishing-gradient", "dead-units", "saturated-units", "terrain", "oscillation",
        "cliff", "noisy-gradient", "high-variance", "high-bias",
    ),
    source=_SOURCE,
)  # fmt: skip
def learning_rate_too_high(run: Run) -> Verdict:
    """The step is beyond what the terrain allows, and the run ended far from what is reachable."""
    lr = own_rate(run)
    if lr is None:
        return Unknown("the learning rate is not known")
    if lr == 0:
        return Clear("the learning rate is 0")
    how = progress(run)
    sharp: Mapping[str, Any] = run.facts.get("sharpness") or {}
    ratio = sharp.get("ratio")
    back = thrown_back(run)
    if not how.ended_far and not back:
        beyond = f"lambda_max at the start was {ratio:.2g} of the stable limit" if ratio else f"lr {lr:.3g}"
        return Clear(f"{beyond}, and the run came far enough")
    lower = best_rate(run, "lower")
    wreck = not trying(run) and wrecked(run)
    jump = max(spike(run, how), tossed(run)) if wreck else spike(run, how)
    evidence = _evidence(ratio, jump, how)
    jumped = how.diverged and sudden(run)
    hard = (how.diverged and not jumped) or (ratio is not None and ratio > SHARP) or thrown(run)
    hard = hard or wreck
    if trying(run) and lower is None and rates_tried(run) and not how.diverged and not back:
        return Clear("no lower rate did better in a short trial")
    if trying(run) and back and lighter(run) is not None and trial_of(run, "oscillation") is None:
        return Unknown("the momentum is heavy: that is looked at first")
    hard = hard or (back and trying(run))  # a short trial does not see what came later
    if lower is None and not (hard and how.standing):
        return Unknown(SUDDEN if jumped else not_tried(run))
    if lower is None and answered(run) and trial_of(run, "learning-rate-too-high") is None:
        return Unknown(not_tried(run))
    severity = settle(run, "learning-rate-too-high", strong=hard and how.standing and not back)
    if severity is None:
        return Clear(f"{evidence}; {refuted(run, 'learning-rate-too-high')}")
    return _finding(run, severity, evidence, lower, jump)


def _finding(run: Run, severity: Severity, evidence: Evidence, lower: float | None, jump: float) -> Finding:
    lr, sharp = own_rate(run) or 0.0, table(run, "sharpness")
    ratio: float | None = sharp.get("ratio")
    new = lower if lower is not None else _guess(run, lr, ratio)
    measured = lower is not None or (ratio is not None and ratio > 1)
    blind = not measured and trial_of(run, "learning-rate-too-high") is None
    return Finding(
        symptom="learning-rate-too-high",
        title="learning rate too high",
        severity=severity,
        where=Where(steps=(1, max(1, _last_step(run)))),
        evidence=evidence,
        also=proved(run, "learning-rate-too-high"),
        message=_message(lr, sharp, jump, progress(run), run)
        + tried(run, "learning-rate-too-high")
        + (guessed(new) if blind else ""),
        remedies=(SetRecipe({"lr": new}, {"lr": lr}), *_clip(run)),
        source=_SOURCE,
    )


def _evidence(ratio: float | None, jump: float, how: Progress) -> Evidence:
    if ratio is not None and ratio > 1:
        return Evidence(
            name="lambda_max before the first step in the method's stable limit",
            value=ratio,
            threshold=1.0,
            provenance="the limit of the method on a quadratic (downslope.optim.stability)",
        )
    if jump > SPIKE:
        return Evidence(
            name="loss of the first steps in the loss at the start",
            value=jump,
            threshold=SPIKE,
            provenance="a stable step lowers the loss on average; bench/diagnosis",
        )
    return Evidence(
        name="share of the way that was covered",
        value=how.share if how.share is not None else -math.inf,
        threshold=0.75,
        unit="share",
        provenance="convention; bench/diagnosis",
    )


def _message(lr: float, sharp: Mapping[str, Any], jump: float, how: Progress, run: Run) -> str:
    if sharp.get("ratio") is not None and sharp["ratio"] > 1:
        error = sharp.get("error", sharp.get("residual"))
        off = f" +- {error:.1g}" if error else ""
        return (
            f"lr {lr:.3g} = {sharp['ratio']:.2g} x the stable limit {lr / sharp['ratio']:.2g} "
            f"(lambda_max {sharp['lambda_max']:.3g}{off} at the start)."
        )
    if how.diverged:
        return f"lr {lr:.3g} took the weights out of the finite numbers."
    if jump > SPIKE:
        left = quenched(run)
        gone = left is not None and left < QUENCHED
        since = f", and {left:.1g} of the gradient is left to its layers since" if gone else ""
        return f"lr {lr:.3g} threw the loss up {jump:.2g}-fold in the first steps{since}."
    if thrown_back(run):
        return f"At lr {lr:.3g} the loss came down and went up again for good."
    if risen(run) > RISEN:
        return f"At lr {lr:.3g} the loss ended {risen(run):.2g} times as high as it began."
    if (died := killed(run)) is not None:
        when = "in the first steps" if died <= OPENING else f"by step {died}"
        return f"lr {lr:.3g} threw the weights so far {when} that units died of it."
    return f"lr {lr:.3g} keeps the loss from settling."


def _guess(run: Run, lr: float, ratio: float | None) -> float:
    """Half the stable limit where it is known, else a tenth of the rate, or a usual one; to one digit."""
    known: Mapping[str, Any] = run.facts.get("optimizer") or {}
    name = known.get("name") if run.recipe is None else run.recipe.optimizer
    new = lr / (2 * ratio) if ratio is not None and ratio > 1 else min(lr / 10, USUAL.get(str(name), lr))
    return float(f"{new:.1g}")


def _last_step(run: Run) -> int:
    steps = run.history.series("train_loss").steps
    lost: Mapping[str, Any] = run.facts.get("nonfinite") or {}
    last = int(steps[-1]) if len(steps) else 1
    return last if lost.get("step") is None else min(last, int(lost["step"]))


def _clip(run: Run) -> tuple[SetRecipe, ...]:
    """Clipping to norm 1, where nothing is clipped yet: it bounds the step, whatever the rate."""
    return (SetRecipe({"clip_norm": 1.0}),) if run.recipe is not None and not bounded(run) else ()
