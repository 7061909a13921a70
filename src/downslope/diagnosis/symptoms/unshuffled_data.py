"""Unshuffled data. Batch after batch of one kind: the model learns the last one and forgets the rest.

A user sees a loss that drops within a stretch of the epoch and jumps at its end, every epoch the same. A data
loader without shuffling on data that is sorted by its label gives gradients that point one way for many
steps; the noise of a random batch, which averages out, becomes a drift. How we know: how much of the targets'
variance lies between the batches as they are served. What looks like it and is not: an order that is fixed
but has nothing to do with the target, and time series whose neighbours are alike and which learn all the
same.
Source: Bottou 2012, Stochastic gradient descent tricks, section 3.1; Bengio 2012, Practical recommendations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Shuffle
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Verdict, symptom

BETWEEN = 0.3
"""Share of the targets' variance between batches from which they count as sorted; a random order of batches
of 32 leaves 0.03."""

SURE = 10.0
"""Deviations of chance that it has to lie above."""

_SOURCE = "Bottou 2012, section 3.1"


@symptom(
    "unshuffled-data",
    title="the data is served in the order of its labels",
    order=("data", 6),
    needs=("data",),
    explains=(
        "oscillation", "learning-rate-too-high", "dead-units", "high-bias", "noisy-gradient", "cliff",
        "learning-rate-too-low", "too-few-steps", "class-imbalance",
    ),
    source=_SOURCE,
)  # fmt: skip
def unshuffled_data(run: Run) -> Verdict:
    """Batches that differ in their targets far more than chance allows, in a run that suffers."""
    order: Mapping[str, Any] | None = run.facts.get("order")
    if order is None:
        return Clear("the examples are drawn in a new random order every epoch")
    chance = f"{order['expected']:.0%} by chance"
    said = f"{order['explained']:.0%} of the targets' variance lies between batches ({chance})"
    if order["explained"] - order["expected"] < BETWEEN or order["z"] < SURE:
        return Clear(said)
    if not progress(run).ended_far:
        return Clear(f"{said}, but the run does well with it")
    severity = settle(run, "unshuffled-data", strong=progress(run).standing)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'unshuffled-data')}")
    return Finding(
        symptom="unshuffled-data",
        title="the data is served in the order of its labels",
        severity=severity,
        evidence=Evidence(
            name="variance of the targets that lies between batches",
            value=order["explained"],
            threshold=order["expected"] + BETWEEN,
            unit="share",
            provenance="(batches - 1) / (examples - 1) for a random order",
        ),
        also=proved(run, "unshuffled-data"),
        message=f"{said[0].upper()}{said[1:]}: the examples come sorted by their target."
        + tried(run, "unshuffled-data"),
        remedies=(Shuffle(),),
        source=_SOURCE,
    )
