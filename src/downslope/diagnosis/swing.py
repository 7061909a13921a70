"""What the loss column of a run shows of its steps: swinging to and fro, single leaps, a fall that goes
on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from downslope.core.run import Run

TAIL = 200
"""Steps at the end in which swings are sought."""


class Swing(NamedTuple):
    """A regular to and fro of the loss."""

    period: int
    """Steps from crest to crest."""
    strength: float
    """Autocorrelation of the loss after one period; 0 for noise, 1 for a perfect wave."""
    depth: float
    """Autocorrelation after half a period, negated."""
    amplitude: float
    """Deviation of the loss about its trend."""


def swing(run: Run) -> Swing | None:
    """The most regular wave in the last steps; None for fewer than 24 steps, or a loss that is not finite."""
    values = run.history.series("train_loss").values[-TAIL:]
    if len(values) < 24 or not bool(np.isfinite(values).all()):
        return None
    steps = np.arange(len(values), dtype=np.float64)
    flat = values - np.polyval(np.polyfit(steps, values, 1), steps)
    power = float(flat @ flat)
    if power <= 0:
        return None
    most = len(values) // 3
    r: NDArray[np.float64] = np.array([float(flat[: len(flat) - k] @ flat[k:]) for k in range(most + 1)])
    # Unbiased: a wave of constant height has the same correlation at every crest.
    r = r / power * len(flat) / (len(flat) - np.arange(most + 1))
    trough = int(r.argmin())
    if trough == 0 or r[trough] > -0.3:
        return None
    after = r[trough:]
    # The first crest: a wave of constant height comes back after every period.
    crest = trough + int(np.flatnonzero(after >= 0.95 * after.max())[0])
    while crest < most and r[crest + 1] > r[crest]:
        crest += 1
    return Swing(crest, float(r[crest]), float(-r[trough]), math.sqrt(power / len(flat)))


class Leap(NamedTuple):
    """A single step that threw the loss up."""

    step: int
    """Of the step that did it, 1-based."""
    times: float
    """The loss after it in the median of the 20 steps before."""
    gradient: float | None
    """Gradient norm at the probe nearest before in the median over all probes; None if not recorded."""
    leaps: int
    """How many leaps of a factor 3 there were."""


def leap(run: Run, after: int = 20) -> Leap | None:
    """The largest leap of the loss after the first steps; None for none, or a loss with values not
    positive.
    """
    series = run.history.series("train_loss")
    values, steps = series.values, series.steps
    if len(values) < after + 10 or not bool((values[np.isfinite(values)] > 0).all()):
        return None
    best: tuple[float, int] = (0.0, -1)
    count, last = 0, -after
    for i in range(after, len(values)):
        before = float(np.median(values[i - after : i]))
        now = float(values[i]) if math.isfinite(values[i]) else math.inf
        times = now / before if before > 0 else 0.0
        if times > 3 and i - last >= after:
            count, last = count + 1, i
        if times > best[0]:
            best = (times, i)
    if best[1] < 0:
        return None
    norms = run.history.series("grad_norm")
    near = norms.values[norms.steps <= steps[best[1]]]
    known = norms.values[np.isfinite(norms.values)]
    gradient = (
        None if not len(near) or not len(known) else float(near[-1]) / max(float(np.median(known)), 1e-300)
    )
    return Leap(int(steps[best[1]]), best[0], gradient, count)
