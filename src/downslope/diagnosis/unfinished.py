"""A run that was stopped while it was still learning: the gate of the symptoms whose remedy buys steps."""

from __future__ import annotations

from downslope.core.run import Run
from downslope.diagnosis.progress import FAR, progress

FALLING = 0.02
"""Fall of the loss over the last fifth of the run, as a share of the way to the lowest loss there is."""


BOUGHT = 0.5
"""Share of the way that a remedy which buys steps has to recover: the run ended far below that level."""


def unfinished(run: Run) -> bool:
    """Whether the loss still falls at the end, far from its floor, and the run is neither lost nor solved."""
    how = progress(run)
    if how.diverged or how.solved or how.falling < FALLING:
        return False
    if how.ended_far:
        return True
    constant, final = how.constant, how.final
    return constant is not None and final is not None and abs(constant - final) < FAR * abs(constant)
