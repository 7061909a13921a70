"""What the first steps did: whether they threw the run where it does not come back from."""

from __future__ import annotations

import math

import numpy as np

from downslope.core.run import Run
from downslope.diagnosis.progress import Progress, progress, smoothed

SPIKE = 1.5
"""Loss of the early steps in those of the start beyond which it counts as thrown up."""

RISEN = 1.05
"""Loss at the end in that of the first step beyond which the steps led up: a stable one leads down."""

SURE = 3.0
"""Standard errors of the mean batch loss beyond which a rise is none of the batches' noise."""

USUAL = 1e-3
"""Update of a module in its weights below which no step is too large (CS231n: about 1e-3 is usual)."""

FEWEST = 50
"""Steps from which the end of a run can be told from its beginning."""

ALIVE, KILLED = 0.5, 0.9
"""Share of a layer's units dead at the start, at most, and later, at least, if a step killed them."""


def spike(run: Run, how: Progress) -> float:
    """Median loss of the steps 2 to 20 in the loss before the first; infinite where it left the numbers."""
    values = run.history.series("train_loss").values[1:20]
    if how.first is None or not how.first > 0 or not len(values):
        return 0.0
    return math.inf if not np.isfinite(values).all() else float(np.median(values)) / how.first


def killed(run: Run) -> bool:
    """Whether a layer's units were alive at the start and are dead for good later: a step did that."""
    if "dead_fraction" not in run.probes:
        return False
    rows = np.nan_to_num(run.probes["dead_fraction"].values, nan=0.0)
    if len(rows) < 2:
        return False
    later = rows[-max(1, len(rows) // 4) :].min(axis=0)
    return bool(((rows[0] <= ALIVE) & (later >= KILLED)).any())


def risen(run: Run) -> float:
    """Loss over the last tenth of the steps in the larger of the start's and a constant guess's.

    0 where that is not known, where the rise lies within the noise of the batches, or where the updates are
    too small to have led anywhere.
    """
    series = run.history.series("train_loss").values
    how, end = progress(run), smoothed(run)
    known = [each for each in (how.first, how.constant) if each is not None and each > 0]
    if end is None or len(series) < FEWEST or not known or _crawls(run):
        return 0.0
    tail = series[-max(2, len(series) // 10) :]
    noise = SURE * float(tail.std()) / math.sqrt(len(tail))
    return end / max(known) if end - noise > max(known) else 0.0


def _crawls(run: Run) -> bool:
    if "update_ratio" not in run.probes:
        return False
    values = run.probes["update_ratio"].values
    return bool(np.isfinite(values).any()) and float(np.nanmedian(values)) < USUAL


def thrown(run: Run) -> bool:
    """Whether the step is beyond doubt.

    The loss left the numbers, was thrown up threefold in the first steps, ended above where it began, or
    units that lived at the start died.
    """
    how = progress(run)
    return how.diverged or spike(run, how) > 2 * SPIKE or risen(run) > RISEN or killed(run)
