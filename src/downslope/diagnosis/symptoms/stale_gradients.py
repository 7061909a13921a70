"""Stale gradients. The gradients are not cleared between the steps: zero_grad is missing.

A user sees a loss that falls, turns, swings ever wider and often leaves the numbers, as at a rate that is far
too large; adaptive methods slow down or circle. Backward adds to the gradients that are there, so every step
goes along the sum of all gradients so far, weighted alike: a momentum of 1, which nothing damps. How we know:
at the first backward pass after a step the gradient of that step is still there, equal to the last bit, and
the next step is taken with both. What looks like it and is not: several backward passes for one step and
then clearing (accumulation on purpose), and what a generator's pass leaves in a discriminator that is cleared
before its own. Such a run may learn all the same; what its steps are is left to chance.
Source: the documentation of torch.optim.Optimizer.zero_grad; Polyak 1964 (momentum has to be below 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

OFTEN = 0.25
"""Share of the sampled steps, of the later half of them, from which gradients are kept as a rule. Convention;
0 in every sound script of the tests, 0.9 and more without zero_grad."""

TWICE = 2
"""Steps in which it has to be seen: once may be a restart. Convention."""

_ADVICE = "call optimizer.zero_grad() before loss.backward(), once for every step"
_BY_HAND = "clear the gradients after every update: model.zero_grad(), or parameter.grad = None for each"

_SOURCE = "torch.optim.Optimizer.zero_grad; Polyak 1964"


@symptom(
    "stale-gradients",
    title="zero_grad missing",
    order=("step", -2),
    explains=(
        "learning-rate-too-high", "learning-rate-too-low", "init-scale", "dead-units", "saturated-units",
        "exploding-gradient", "vanishing-gradient", "unstable-objective", "oscillation", "cliff",
        "noisy-gradient", "batch-too-large", "too-few-steps", "terrain", "generalisation",
    ),
    source=_SOURCE,
)  # fmt: skip
def stale_gradients(run: Run) -> Verdict:
    """The gradient of a step is still there when that of the next one is added to it, as a rule."""
    found: Mapping[str, Any] | None = run.facts.get("leftover")
    if found is None:
        if run.recipe is not None:
            return Clear("the loop of ds.fit clears the gradients before every step")
        why: Mapping[str, str] = run.facts.get("not_measured") or {}
        return Unknown(why.get("leftover", "no two steps with a backward pass between them were looked at"))
    seen, kept = int(found["seen"]), int(found["kept"])
    if kept < TWICE or found["late"] < OFTEN:
        said = "none" if not kept else str(kept)
        return Clear(f"{said} of {seen} sampled steps began with the gradient of the step before")
    share = kept / seen
    updated: Mapping[str, Any] = run.facts.get("optimizer") or {}
    return Finding(
        symptom="stale-gradients",
        title="zero_grad missing",
        severity="critical" if progress(run).ended_far else "warning",
        evidence=Evidence(
            name="steps that used the gradient of the step before again",
            value=share,
            threshold=OFTEN,
            unit="share of the sampled steps",
            provenance="equal to the last bit; 0 where gradients are cleared",
        ),
        message=f"In {kept} of {seen} sampled steps, from step {found['first']} on, the gradient of the "
        "step before was still there, and the new one was added to it: every step goes along the sum of all "
        "gradients since they were last cleared.",
        remedies=(Advice(_BY_HAND if updated.get("by_hand") else _ADVICE),),
        source=_SOURCE,
    )
