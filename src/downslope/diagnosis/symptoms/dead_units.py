"""Dead units. Rectified units that are zero for every example: no gradient passes, and they never come back.

Units die when a step that is too large throws their bias far below zero, or are born dead from weights or
inputs out of scale. Then the remedy is that of the cause; the dead units are its consequence. What looks like
it and is not: sparse activity (zero for most examples, but not for all), and a few dead units in a net that
learns. Source: Maas, Hannun and Ng 2013; Lu, Shin, Su and Karniadakis 2020, Dying ReLU and initialization.
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

DEAD = 0.6
"""Share of a layer's units that are zero for a whole probed batch; up to 0.4 occurs in nets that learn."""

CERTAIN = 0.95
"""Share at which, without a trial, a run that stands still is put down to it."""

_SOURCE = "Maas et al. 2013; Lu et al. 2020, Dying ReLU and initialization"


@symptom(
    "dead-units",
    title="units that are always zero",
    order=("model", 6),
    needs=("probe:dead_fraction",),
    explains=("learning-rate-too-low", "plateau", "saddle-point", "high-bias"),
    source=_SOURCE,
)
def dead_units(run: Run) -> Verdict:
    """Most units of a layer are zero for every example at the end, and the run suffers."""
    probe = run.probes["dead_fraction"]
    rows = np.nan_to_num(probe.values, nan=0.0)
    tail = rows[-max(1, len(rows) // 4) :]
    share = tail.min(axis=0)  # dead in each of the last probes: a unit that comes back was not dead
    worst = int(share.argmax())
    name, value, born = called(run.facts, probe.modules[worst]), float(share[worst]), float(rows[0][worst])
    if value < DEAD:
        return Clear(f"at most {value:.0%} of the units of a layer are dead ({name})")
    if not progress(run).ended_far:
        return Clear(f"{value:.0%} of the units of {name} are dead, but the run does well without them")
    over = np.flatnonzero(rows[:, worst] >= DEAD)
    begun = int(probe.steps[over[0]]) if len(over) else int(probe.steps[-1])
    at_start = born >= DEAD
    severity = settle(run, "dead-units", strong=value >= CERTAIN and progress(run).standing)
    if severity is None:
        return Clear(f"{value:.0%} of the units of {name} are dead; {refuted(run, 'dead-units')}")
    return Finding(
        symptom="dead-units",
        title="units that are always zero",
        severity=severity,
        where=Where(
            modules=tuple(m for m, s in zip(probe.modules, share, strict=True) if s >= DEAD),
            steps=(max(begun, 1), max(int(probe.steps[-1]), 1)),
        ),
        evidence=Evidence(
            name=f"units of {name} that are zero for every example",
            value=value,
            threshold=DEAD,
            unit="share of the layer",
            provenance="at most 0.4 in learning nets of bench/diagnosis",
        ),
        also=proved(run, "dead-units"),
        message=f"{value:.0%} of the units of {name} are zero for every example, from "
        + (f"the start ({born:.0%})." if at_start else f"step {begun} ({born:.0%} at the start).")
        + tried(run, "dead-units"),
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _remedies(run: Run) -> tuple[Edit, ...]:
    activations: Mapping[str, Mapping[str, Any]] = run.facts.get("activations") or {}
    last = (run.facts.get("output") or {}).get("module")
    rectified = [
        n for n, said in activations.items() if said.get("kind") == "relu" and "+" not in n and n != last
    ]
    redraw = Reinitialise("auto")
    if not rectified:
        return (redraw,)
    leaky = tuple(ReplaceModule(name, "torch.nn:LeakyReLU", {"negative_slope": 0.1}) for name in rectified)
    return (Combined((*leaky, redraw)), redraw)
