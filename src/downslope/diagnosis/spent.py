"""A schedule that has taken the rate away before the run was done: read off the recorded rates; pure.

A scheduler made for epochs and stepped once a batch takes the rate to nothing within the first hundred steps;
the rest of the run is spent at no rate at all. A schedule that ends at nothing (cosine, linear, one-cycle)
spends little of its run there, and one that waits for a plateau gets there after the learning is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from downslope.core.run import Run
from downslope.diagnosis.early import FEWEST, SURE
from downslope.diagnosis.progress import FAR, Progress, progress

_Numbers = NDArray[np.float64]

GONE = 0.01
"""Share of a run's highest rate at which, and below which, it is practically nothing: a hundred steps do what
one did. Convention; a cosine spends 6 % of its steps there, a step decay by 10 gets there by its second."""

VANISHED, REST = 1e-4, 1 / 3
"""The same at which a step does nothing at all, and the share of the steps taken there from which it is asked
how the loss stood when the rate went, though nothing says how far it could have come. Convention."""

MOST = 0.5
"""Share of the steps beyond which the rate was gone for the greater part of the run."""

TURN = 1.0 / (1.0 + math.sqrt(1.0 - FAR))
"""Fall over the first half of the way by rates, in the whole fall, below which the run broke off far away.

Of a loss that falls exponentially by a factor q over each half the first makes ``1 / (1 + q)`` of the fall,
and ``q ** 2`` of the way is left: ``1 - FAR`` for q = 1/2. One that falls more slowly has more left.
"""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A run that the schedule left without a rate."""

    peak: float
    """The highest rate of the run."""
    last: float
    """The rate of its last step."""
    since: int
    """The step from which on the rate is at most `GONE` of the highest."""
    steps: int
    """Steps of the run."""
    weight: float
    """Sum of all rates, counted in steps at the highest."""
    falling: bool
    """Whether the loss was still falling when the rate went (`TURN`)."""
    late: bool = False
    """Whether it fell beyond its noise over the second half of what rate there was; or over all of it, where
    that weighs no more than the steps from which an end can be told from a beginning."""
    nothing: float = 0.0
    """Share of the steps taken at `VANISHED` of the highest rate or less."""

    @property
    def share(self) -> float:
        """Share of the steps that were taken without a rate."""
        return (self.steps - self.since + 1) / self.steps

    def starved(self, how: Progress) -> bool:
        """Whether that alone explains, without a trial, that a run did not arrive.

        It stands where it began after steps that weigh no more than those from which an end can be told from
        a beginning, or it was broken off in its fall. A plateau, before which a schedule may have waited, is
        neither.
        """
        if not how.ended_far or how.diverged:
            return False
        return self.falling or (how.standing and self.weight < FEWEST)


def unmeasured(run: Run) -> Spent | None:
    """A rate that vanished while the loss fell, in a run of which nothing says how far it could have come.

    None for a run that a constant guess or a trial measures, and where the loss stood when the rate went.
    """
    if progress(run).share is not None or run.facts.get("rivals") or progress(run).solved:
        return None
    gone = spent(run)
    return gone if gone is not None and gone.nothing > REST and (gone.falling or gone.late) else None


def spent(run: Run) -> Spent | None:
    """What the schedule left of the rate; None where it lasted for half of the run or more.

    With other groups or optimizers beside the one whose rate is recorded, theirs have to be gone too.
    """
    series = run.history.series("lr")
    rates = series.values
    if len(rates) < FEWEST or not np.isfinite(rates).all() or rates.max() <= 0 or rates.min() < 0:
        return None
    # Where only some steps were recorded, a rate holds until the next.
    count = max(int(series.steps[-1]), int(run.summary.get("steps") or 0))
    lasting = np.diff(series.steps, append=count + 1).astype(np.float64)
    peak = float(rates.max())
    limit = GONE * peak * (1 + 1e-9)  # a factor of 0.1 twice is 0.01 but for rounding
    beside: Sequence[float] = run.facts.get("rates_left") or ()
    first = int(np.flatnonzero(rates > limit)[-1]) + 1
    if lasting[first:].sum() <= MOST * count or any(each > limit for each in beside):
        return None
    weights = rates / peak * lasting
    losses = run.history.series("train_loss")
    known = np.isin(series.steps, losses.steps).all() and len(losses.steps) == len(rates)
    values = (-1.0 if run.maximize else 1.0) * losses.values
    falling, late = False, False
    if known and np.isfinite(values).all():
        falling, late = _falling(values, rates, weights, first)
    return Spent(
        peak=peak,
        last=float(rates[-1]),
        since=int(series.steps[first]),
        steps=count,
        weight=float(weights.sum()),
        falling=falling,
        late=late,
        nothing=float(lasting[rates <= VANISHED * peak * (1 + 1e-9)].sum()) / count,
    )


def _falling(losses: _Numbers, rates: _Numbers, weights: _Numbers, first: int) -> tuple[bool, bool]:
    """Whether the loss fell too slowly to have arrived by the recorded step `first`; and `Spent.late`.

    Both beyond its noise: the weights stand still afterwards, and the spread of those losses is the noise of
    the batches. Many steps at a high rate may have reached a floor, below which any decay leads: then only
    they are looked at.
    """
    noise, few = float(losses[first:].std()), weights.sum() < FEWEST
    part = first if few else int(np.flatnonzero(rates >= 0.5 * rates.max())[-1]) + 1
    way = np.cumsum(weights[:part]) / weights[:part].sum()
    begun = losses[: max(1, int((way <= 0.1).sum()))]
    middle = losses[:part][(way >= 0.4) & (way <= 0.6)]
    end = losses[first:] if few else losses[:part][way >= 0.9]
    if not len(middle):
        return False, False
    fall = float(begun.mean() - end.mean())
    rest = float(middle.mean() - end.mean())
    slack = rest - (1.0 - TURN) * fall
    error = noise * math.sqrt(1 / len(begun) + 1 / len(middle) + 1 / len(end))
    late = rest > SURE * noise * math.sqrt(1 / len(middle) + 1 / len(end))
    fell = fall > SURE * error
    return fell and slack > SURE * error, late or (few and fell)
