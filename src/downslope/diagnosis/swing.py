"""What the loss column of a run shows of its steps: swinging to and fro, single leaps, a fall that goes
on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from downslope.core.run import Run
from downslope.diagnosis.chance import chance
from downslope.diagnosis.progress import FAR, progress

TAIL = 200
"""Steps at the end in which swings are sought."""

FEWEST = 50
"""Steps in which a wave can be told from noise: of 24 one noise in forty passes for one, of 50 one in 400."""

AFTER = 10
"""Steps after a leap over which the loss has to stay up; a single hard batch is no leap. Convention."""


LEAP = 5.0
"""Loss after a step in the median of the twenty before. Convention; batches of one example leap as high by
chance, but do not stay there."""


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
    again: float
    """Autocorrelation after two periods: a wave comes back, a chance likeness does not."""


def swing(run: Run) -> Swing | None:
    """The most regular wave in the last steps; None for too few, or a loss that is not finite."""
    values = run.history.series("train_loss").values[-TAIL:]
    if len(values) < FEWEST or not bool(np.isfinite(values).all()):
        return None
    size = float(np.abs(values).max())
    if size <= 0:
        return None
    values = values / size  # whose squares stay finite
    steps = np.arange(len(values), dtype=np.float64)
    flat = values - np.polyval(np.polyfit(steps, values, 1), steps)
    power = float(flat @ flat)
    if power <= 1e-20 * len(flat):  # nothing but rounding
        return None
    most = len(values) // 3
    r: NDArray[np.float64] = np.array([float(flat[: len(flat) - k] @ flat[k:]) for k in range(most + 1)])
    # Unbiased: a wave of constant height has the same correlation at every crest.
    r = r / power * len(flat) / (len(flat) - np.arange(most + 1))
    trough = int(np.flatnonzero(r <= 0.95 * r.min())[0]) if r.min() < 0 else 0
    while 0 < trough < most and r[trough + 1] < r[trough]:
        trough += 1
    if trough == 0 or r[trough] > -0.3:
        return None
    after = r[trough:]
    # The first crest: a wave of constant height comes back after every period.
    if after.max() <= 0:
        return None
    crest = trough + int(np.flatnonzero(after >= 0.95 * after.max())[0])
    while crest < most and r[crest + 1] > r[crest]:
        crest += 1
    height = size * math.sqrt(power / len(flat))
    return Swing(crest, float(r[crest]), float(-r[trough]), height, _again(flat, power, crest))


def _again(flat: NDArray[np.float64], power: float, period: int) -> float:
    """Autocorrelation after two periods, unbiased, the best of the lags beside them."""
    n = len(flat)
    near = range(2 * period - max(1, period // 8), 2 * period + max(1, period // 8) + 1)
    lags = [k for k in near if k <= 3 * n // 4]
    return max((float(flat[: n - k] @ flat[k:]) / power * n / (n - k) for k in lags), default=0.0)


def thrown_back(run: Run) -> bool:
    """Whether the run ended no better than a constant guess though it had been far better on the way.

    The best epoch on validation speaks for a run; of one that stands at its end, and whose last validation is
    far below its best, it only says what was lost. Without validation data the mean losses on the way say it.
    """
    how = progress(run)
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    guess: Mapping[str, Any] = run.facts.get("constant") or {}
    key = "metric" if ending.get("best_valid_metric") is not None else "loss"
    last, best, base = (
        ending.get(f"valid_{key}"), ending.get(f"best_valid_{key}"), guess.get(f"valid_{key}")
    )  # fmt: skip
    if not how.standing or how.solved or how.futile or how.diverged:
        return False
    if best is None:
        return _lost_again(run)
    if last is None or base is None:
        return False
    return abs(best - base) > chance(run, key) and (last - base) / (best - base) < FAR


def _lost_again(run: Run) -> bool:
    """Whether the mean loss of a tenth of the run lay far below a guess, and that of the last does not."""
    how, sign = progress(run), -1.0 if run.maximize else 1.0
    values = sign * run.history.series("train_loss").values
    if how.constant is None or len(values) < FEWEST or not bool(np.isfinite(values).all()):
        return False
    base = sign * how.constant
    parts = [float(part.mean()) for part in np.array_split(values, 10)]
    low, last = min(parts), parts[-1]
    way = base - (low if how.reachable is None else sign * how.reachable)
    return way > 0.5 * abs(base) and base - low > (1 - FAR) * way and base - last < (1 - FAR) * (base - low)


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
    lasts: bool
    """Whether the loss stayed up: its median over the steps after is above all of the twenty before."""


def leap(run: Run, after: int = 20) -> Leap | None:
    """The largest leap of the loss after the first steps, one that lasts before one that does not.

    None for none, for a loss with values that are not positive, and for an objective that is maximised.
    """
    series = run.history.series("train_loss")
    values, steps = series.values, series.steps
    if run.maximize or len(values) < after + 10 or not bool((values[np.isfinite(values)] > 0).all()):
        return None
    best: tuple[bool, float, int] = (False, 0.0, -1)
    count, last = 0, -after
    for i in range(after, len(values)):
        before = float(np.median(values[i - after : i]))
        now = float(values[i]) if math.isfinite(values[i]) else math.inf
        times = now / before if before > 0 else 0.0
        if times > 3 and i - last >= after:
            count, last = count + 1, i
        found = (times > 3 and _lasts(values[i - after : i], values[i : i + AFTER]), times, i)
        best = max(best, found)
    lasts, most, at = best
    if at < 0 or not most > 1:
        return None
    norms = run.history.series("grad_norm")
    near = norms.values[norms.steps <= steps[at]]
    known = norms.values[np.isfinite(norms.values)]
    gradient = (
        None if not len(near) or not len(known) else float(near[-1]) / max(float(np.median(known)), 1e-300)
    )
    return Leap(int(steps[at]), most, gradient, count, lasts)


def _lasts(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether the median after is above all before; what is not finite counts as above.

    Of 30 losses in random order that is one in 3000 (the six largest are among the last ten).
    """
    calm = before[np.isfinite(before)]
    if not len(calm):
        return False
    return float(np.median(np.where(np.isfinite(after), after, np.inf))) > float(calm.max())
