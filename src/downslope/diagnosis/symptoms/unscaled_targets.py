"""Unscaled targets. A regression whose loss starts huge and explodes, or creeps down for the whole run.

The last layer's bias has to travel to the mean of the targets and its weights to their deviation, in steps of
the learning rate; with a squared error the first gradients are as large as the targets. It looks like a
learning rate that is too high (or, with Adam, too low). Source: Bishop 1995, Neural Networks for Pattern
Recognition, section 8.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, StandardiseTargets
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.early import thrown
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.reach import CLIPPED, LARGE
from downslope.diagnosis.structure import barred
from downslope.diagnosis.symptom import STEPS, Clear, Unknown, Verdict, symptom

SMALL = 0.05
"""Deviation of the targets below which they count as unscaled."""

OFFSET = 5.0
"""Mean of the targets in their own deviations."""

CERTAIN = 4.0
"""Factor beyond these limits at which, without a trial, a run that stands still is put down to the scale."""

OVERFLOWS = 1e17
"""Root mean square of the targets whose squares, of an output some deviations away, float32 cannot hold: its
largest number is 3.4e38. No trial can tell then, since its loss in these units is infinite too."""

BOUNDED = ("softmax", "sigmoid", "hardsigmoid", "tanh", "hardtanh")
"""Last activations that no scale of the targets can be learnt through: the cause is then the activation."""

_SOURCE = "Bishop 1995, Neural Networks for Pattern Recognition, section 8.2"


@symptom(
    "unscaled-targets",
    title="targets of the wrong scale",
    order=("data", 2),
    needs=("data",),
    explains=("unstable-objective", "model", "terrain", *STEPS, "high-bias"),
    source=_SOURCE,
)
def unscaled_targets(run: Run) -> Verdict:
    """Real targets far from mean 0 and deviation 1 under an objective for numbers, in a run that suffers."""
    target: Mapping[str, Any] = run.facts["data"].get("target") or {}
    expects = (run.facts.get("output") or {}).get("expects")
    if not target:
        return Unknown("the targets were not seen")
    if run.facts["data"].get("standardised_targets"):
        return Clear("the objective sees standardised targets")
    if target.get("kind") != "real" or expects not in ("real", None):
        return Clear("the targets are no measurements")
    rms, std, mean = target.get("rms"), target.get("std"), target.get("mean")
    if not rms or not std or mean is None:
        return Clear("the targets do not vary")
    measured = [
        ("root mean square of the targets", rms, LARGE, rms / LARGE),
        ("deviation of the targets", std, SMALL, SMALL / std),
        ("mean of the targets in their deviations", abs(mean) / std, OFFSET, abs(mean) / std / OFFSET),
    ]
    name, value, limit, excess = max(measured, key=lambda row: row[3])
    if excess < 1:
        return Clear(f"targets have mean {mean:.3g} and deviation {std:.3g}")
    output: Mapping[str, Any] = run.facts.get("output") or {}
    if output.get("activation") in BOUNDED and (output.get("clipped") or 0.0) > CLIPPED:
        return Clear(f"{name} is {value:.3g}, but the {output['activation']} at the end bars the way to it")
    if not progress(run).ended_far:
        return Clear(f"{name} is {value:.3g}, but the run does well with it")
    if (why := barred(run, "unscaled-targets")) is not None:
        return Unknown(f"{name} is {value:.3g}; {why}")
    severity = settle(
        run, "unscaled-targets", strong=progress(run).standing and (excess > CERTAIN or thrown(run))
    )
    if rms > OVERFLOWS and progress(run).diverged:
        severity = "critical"
    if severity is None:
        return Clear(f"{name} is {value:.3g}; {refuted(run, 'unscaled-targets')}")
    return Finding(
        symptom="unscaled-targets",
        title="targets of the wrong scale",
        severity=severity,
        evidence=Evidence(
            name=name,
            value=value,
            threshold=limit,
            unit="ratio" if name.startswith("mean") else "units of the target",
            provenance="convention: targets with mean 0 and deviation 1 (Bishop 1995, 8.2)",
        ),
        also=proved(run, "unscaled-targets"),
        message=f"The {name} is {value:.3g} (about {0 if name.startswith('mean') else 1} is wanted)."
        f"{tried(run, 'unscaled-targets')}",
        remedies=(*_in_other_units(rms), StandardiseTargets()),
        source=_SOURCE,
    )


def _in_other_units(rms: float) -> tuple[Advice, ...]:
    """What is left where float32 cannot hold the squares: no edit changes the user's own units."""
    if rms <= OVERFLOWS:
        return ()
    return (Advice(f"divide the targets by {rms:.0e} in the data: their squares overflow float32"),)
