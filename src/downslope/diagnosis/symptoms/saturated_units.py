"""Saturated units. Sigmoids and tanhs that sit at their ends, where the slope is nearly zero.

A user sees a loss that hardly moves, or moves in the last layer only. Beyond four standard deviations of
input a tanh is flat to 1e-3; what comes back through it is multiplied by that. Inputs or weights that are too
large put units there from the start, a step that is too large later. What looks like it and is not: a
classifier's last sigmoid, which is meant to be sure, and gates that are open or shut.
Source: LeCun, Bottou, Orr and Mueller 1998, section 4.4; Glorot and Bengio 2010, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.core.edits import Combined, Edit, Reinitialise, ReplaceModule
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.modules import called
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Verdict, symptom

SATURATED = 0.7
"""Share of a layer's outputs within 1 % of an end; nets that learn have at most 0.5 (bench/diagnosis)."""

CERTAIN = 0.95
"""Share at which, without a trial, a run that stands still is put down to it."""

_SOURCE = "LeCun et al. 1998, section 4.4; Glorot and Bengio 2010, section 3"


@symptom(
    "saturated-units",
    title="units at the flat ends of their activation",
    order=("model", 4),
    needs=("probe:saturated_fraction",),
    explains=("vanishing-gradient", "learning-rate-too-low", "plateau"),
    source=_SOURCE,
)
def saturated_units(run: Run) -> Verdict:
    """Most outputs of a hidden activation are at its ends, and the run suffers."""
    probe = run.probes["saturated_fraction"]
    hidden = [i for i, name in enumerate(probe.modules) if not _last(run, name)]
    if not hidden:
        return Clear("no hidden layer has an activation with ends")
    rows = np.nan_to_num(probe.values, nan=0.0)[:, hidden]
    share = rows[-max(1, len(rows) // 4) :].min(axis=0)
    worst = int(share.argmax())
    name = called(run.facts, probe.modules[hidden[worst]])
    value, born = float(share[worst]), float(rows[0][worst])
    if value < SATURATED:
        return Clear(f"at most {value:.0%} of the outputs of a layer are at an end ({name})")
    how = progress(run)
    if not how.ended_far:
        return Clear(f"{value:.0%} of the outputs of {name} are at an end, but the run does well with it")
    severity = settle(run, "saturated-units", strong=value >= CERTAIN and how.standing)
    if severity is None:
        return Clear(f"{value:.0%} of the outputs of {name} are at an end; {refuted(run, 'saturated-units')}")
    over = np.flatnonzero(rows[:, worst] >= SATURATED)
    begun = int(probe.steps[over[0]]) if len(over) else int(probe.steps[-1])
    at_start = f"the start ({born:.0%})" if born >= SATURATED else f"step {begun} ({born:.0%} at the start)"
    return Finding(
        symptom="saturated-units",
        title="units at the flat ends of their activation",
        severity=severity,
        where=Where(
            modules=tuple(probe.modules[i] for i, s in zip(hidden, share, strict=True) if s >= SATURATED),
            steps=(max(begun, 1), max(int(probe.steps[-1]), 1)),
        ),
        evidence=Evidence(
            name=f"outputs of {name} at an end of the activation",
            value=value,
            threshold=SATURATED,
            unit="share of the layer",
            provenance="at most 0.5 in nets that learn; bench/diagnosis",
        ),
        also=proved(run, "saturated-units"),
        message=f"{value:.0%} of the outputs of {name} are at the flat ends of the activation, from "
        f"{at_start}." + tried(run, "saturated-units"),
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _last(run: Run, name: str) -> bool:
    """Whether the activation is that of the output."""
    output: Mapping[str, Any] = run.facts.get("output") or {}
    if output.get("module") is not None:
        return name == output["module"]
    activations: Mapping[str, Any] = run.facts.get("activations") or {}
    at_end = list(activations)[-1:] == [name]
    return at_end and output.get("activation") == activations[name].get("kind")


def _remedies(run: Run) -> tuple[Edit, ...]:
    activations: Mapping[str, Mapping[str, Any]] = run.facts.get("activations") or {}
    redraw = Reinitialise("auto")
    squashing = [
        name
        for name, said in activations.items()
        if said.get("kind") in ("sigmoid", "tanh", "hardsigmoid", "hardtanh")
        and "+" not in name
        and not _last(run, name)
    ]
    if not squashing:
        return (redraw,)
    swap = tuple(ReplaceModule(name, "torch.nn:ReLU") for name in squashing)
    return redraw, Combined((*swap, redraw))
