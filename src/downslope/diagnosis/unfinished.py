"""A run that was stopped while it was still learning: the gate of the symptoms whose remedy buys steps."""

from __future__ import annotations

from downslope.core.run import Run
from downslope.diagnosis.progress import FAR, progress

FALLING = 0.02
"""Fall of the loss over the last fifth of the run, as a share of the way to the lowest loss there is."""


TOLD = 50
"""Steps from which the fall at a run's end can be told from the noise of its batches (`early.FEWEST`)."""

BOUGHT = 0.5
"""Share of the way that a remedy which buys steps has to recover: the run ended far below that level."""


def unfinished(run: Run) -> bool:
    """Whether the loss still falls at the end, far from its floor, and the run is neither lost nor solved."""
    how = progress(run)
    if how.diverged or how.solved:
        return False
    # Of so few steps the last fifth is a handful of batches, whose noise hides any fall: a trial tells.
    told = len(run.history.series("train_loss").steps) >= TOLD
    if told and how.falling < FALLING:
        return False
    if how.ended_far:
        return True
    constant, final = how.constant, how.final
    return constant is not None and final is not None and abs(constant - final) < FAR * abs(constant)
