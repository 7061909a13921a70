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

import numpy as np

from downslope.core.edits import Shuffle
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.progress import FAR, progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

BETWEEN = 0.3
"""Share of the targets' variance between batches from which they count as sorted; a random order of batches
of 32 leaves 0.03."""

FOLLOWS = 3.0
"""Times the usual loss that batches with new targets cost a model which follows the order; noise in a series
costs all batches alike. Measured: 7 and 6 on sorted digits and numbers under SGD, 1.0 to 1.1 on time series,
learnt or not; bench of scripts in tests/diagnosis/test_served.py."""

WORSE = 1.25
"""Times the loss of a constant guess, on batches with new targets, that only a model has which was led away
from it; an untrained one has 1.0 to 1.2."""

ALONE = 0.8
"""Share of the variance of classes between batches from which a batch holds hardly more than one of them: a
run that moves its weights and stands must be shuffled first, whatever else is wrong with it. Sorted digits in
batches of 32 have 0.94. Convention."""

MOVED = 1e-4
"""Median update in the weights from which a run moves them; ten times less than usual (CS231n)."""

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
    if order is None and run.facts["data"].get("sampled") and run.problem is None:
        return Unknown("the targets of too few batches were seen, one after the other")
    if order is None:
        return Clear("the examples are drawn in a new random order every epoch")
    chance = f"{order['expected']:.0%} by chance"
    said = f"{order['explained']:.0%} of the targets' variance lies between batches ({chance})"
    if order["explained"] - order["expected"] < BETWEEN or order["z"] < SURE:
        return Clear(said)
    follows, cost = _follows(order)
    if not progress(run).ended_far and not follows:
        return Clear(f"{said}, but the run does well with it{cost}")
    strong = follows or (progress(run).standing and (not order.get("watched") or _alone(run, order)))
    severity = settle(run, "unshuffled-data", strong=strong)
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
        message=f"{said[0].upper()}{said[1:]}: the examples come sorted by their target{cost}."
        + tried(run, "unshuffled-data"),
        remedies=(Shuffle(),),
        source=_SOURCE,
    )


def _alone(run: Run, order: Mapping[str, Any]) -> bool:
    """Whether batches hold hardly more than one class, in a run that moves its weights."""
    if not order.get("classes") or order["explained"] < ALONE or "update_ratio" not in run.probes:
        return False
    values = run.probes["update_ratio"].values
    return bool(np.nanmedian(values) >= MOVED) if np.isfinite(values).any() else False


def _follows(order: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether batches with new targets show a model that follows the order, and what they cost, in words."""
    fresh, stale = order.get("fresh"), order.get("stale")
    if fresh is None or stale is None:
        return False, ""
    said = f"; batches unlike the one before cost {fresh:.2g} of a constant guess, the others {stale:.2g}"
    return fresh >= WORSE or (fresh > 1 - FAR and fresh >= FOLLOWS * stale), said
