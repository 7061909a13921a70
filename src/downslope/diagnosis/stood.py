"""Runs that stood from their start, and what a short trial beside one has to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.progress import STANDING, bottom, progress, table
from downslope.diagnosis.proof import CERTAIN, gain

BEYOND = 2 * STANDING
"""Share of the way from a constant guess to a perfect score that a short trial has to come: twice that up to
which a run counts as standing. Convention."""


def stood(run: Run) -> bool:
    """Whether the run is no better than a constant guess, although it kept to the finite numbers."""
    how = progress(run)
    return how.standing and not how.diverged


def leaves_the_guess(run: Run, trial: Mapping[str, Any]) -> bool:
    """Whether a short trial beside a run that stood leaves a constant guess behind, on held-out data too.

    Args:
        run: That stood.
        trial: What its remedy reached in fewer steps than the run had, as `proof.gain` takes it.
    """
    base, lowest, reached = table(run, "constant").get("loss"), bottom(run), trial.get("loss")
    if base is None or lowest is None or reached is None or run.maximize:
        return False
    return base - reached >= BEYOND * (base - lowest) and gain(trial) >= CERTAIN
