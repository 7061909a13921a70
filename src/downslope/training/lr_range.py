"""The learning-rate range test: several fixed rates by several seeds, answered as a range, or refused.

A sweep that raises the rate within one run mixes the rate with the time (Smith 2017) and has no error bar:
one lucky batch moves its steepest point by decades. Here every rate is a short run of its own, from the same
weights on the same batches as all others of its seed, beside one with rate 0. The gain of a rate is the share
of their untrained loss that it took off those batches; differences over the seeds are paired (Student 1908).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.fixed_sample import drawn
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.training.broadcast import once
from downslope.training.optimizer import settled
from downslope.training.population import fit_population
from downslope.training.rate_range import RateRange, Row

FIRST = tuple(10.0**k for k in range(-6, 2))
"""Rates that are tried at first, a decade apart; more follow below and above while the best is at an end."""

LOWEST, HIGHEST = 1e-12, 1e6
"""Rates beyond which nothing is tried."""

FINE = 10**0.25
"""Factor between the rates around the best: four a decade."""

EDGE = 1.15
"""Factor between the largest stable and the smallest unstable rate, at which the limit is known."""

NEAR = 0.8
"""Share of the best gain from which on a rate belongs to the range. Convention."""

LEAST = 1e-3
"""Share of the untrained loss that the best rate has to take off. Convention."""

TINY = 1e-300

STEPS = 60


@once()
def lr_range(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    steps: int = STEPS,
    seeds: int = 3,
    seconds: float | None = None,
    progress: bool = True,
) -> RateRange:
    """Which learning rates work for a problem and a recipe: a range with its uncertainty, or a refusal.

    Rates from 1e-6 to 10 are tried a decade apart, upwards, and none above one from which every seed
    diverged; then four a decade around the best, and the edge of stability between the last stable and the
    first unstable rate. Schedule, warm-up and early stopping are left out. The loss after few steps favours
    smaller rates than a long run with a schedule can take (Wu et al. 2018): the upper half of the range is
    the better start for those.

    Args:
        problem: Its training data counts; of data in memory as many examples as the steps can see.
        recipe: Optimizer, batch size, precision, clipping; its own rate does not matter. Adam if left out.
        steps: Of each run, at least 8.
        seeds: Of each rate, at least 2; the recipe's own is the first.
        seconds: Longest time; the test ends with what it has.
        progress: Whether to say on standard error what is tried.

    Returns:
        The range. It is refused where the optimizer takes no rate, the target is constant, the loss is not
        finite, does not depend on the rate, is not lowered by any rate for certain, or at no rate tried.

    Raises:
        InputError: what `fit` raises, or fewer steps or seeds than allowed.
    """
    check_asked(problem, recipe)
    for name, value, least in (("steps", steps, 8), ("seeds", seeds, 2)):
        given: Any = value
        if isinstance(given, bool) or not isinstance(given, int) or given < least:
            raise InputError(f"{name}={value!r}: must be an integer of at least {least}")
    return _Test(problem, settled(problem, recipe or Recipe()), steps, seeds, seconds, progress).go()


class _Test:
    """One range test on its way."""

    def __init__(
        self, problem: Problem, recipe: Recipe, steps: int, seeds: int, seconds: float | None, progress: bool
    ) -> None:
        self.begun, self.progress = time.monotonic(), progress
        self.until = None if seconds is None else self.begun + seconds
        self.seeds = tuple((recipe.seed + k) % 2**63 for k in range(seeds))
        self.recipe = recipe.edit(
            steps=steps, schedule=None, schedules=None, warmup=None, patience=None, average=None
        )
        self.problem = _seen(problem.edit(valid=None, goal=None, metric=None), self.recipe, steps)
        self.sign = -1.0 if problem.maximize else 1.0
        self.late = slice(-max(2, steps // 4), None)
        self.steps = steps
        self.rows: dict[float, Row] = {}
        self.control: list[tuple[float, float]] = []
        self.moved = False

    def go(self) -> RateRange:
        if self.recipe.lr is None and not self.recipe.opaque:
            return self._refuse(f"{self.recipe.optimizer} takes no learning rate")
        if _constant(self.problem):
            return self._refuse("the target is constant: a constant answers it, at any rate")
        runs = self._runs([0.0])
        self.control = [self._ends(run) for run in runs]
        if not all(math.isfinite(value) for pair in self.control for value in pair) or not runs:
            where = next((r.facts["nonfinite"] for r in runs if "nonfinite" in r.facts), None)
            named = "" if where is None else f" ({where['what']} {where.get('module') or ''}".rstrip() + ")"
            return self._refuse(f"the loss is not finite before any step{named}")
        self.moved = self._falls(runs)
        self._scan()
        self._widen()
        if (reason := self._useless()) is not None:
            return self._refuse(reason)
        self._refine()
        self._bisect()
        return self._answer()

    # -- trying -------------------------------------------------------------------------------------------

    def _runs(self, rates: Sequence[float]) -> list[Run]:
        if self.progress and rates:
            what = ", ".join(f"{rate:.2g}" for rate in rates)
            sys.stderr.write(f"range: lr {what}, {len(self.seeds)} seeds of {self.steps} steps\n")
        recipes = [self.recipe.edit(lr=rate) for rate in rates]
        runs = fit_population(
            self.problem,
            recipes,
            self.seeds,
            progress=False,
            label="range",
            until=self.until,
            way="one by one",
        )
        if any(run.status == "interrupted" for run in runs):
            raise KeyboardInterrupt
        return runs

    def _try(self, rate: float) -> Row | None:
        """What a rate came to; None where the time is up."""
        rate = float(f"{rate:.3g}")
        if rate in self.rows:
            return self.rows[rate]
        runs = self._runs([rate])
        if len(runs) < len(self.seeds):
            return None
        ends = [self._ends(run) for run in runs]
        gains = [
            (zero[0] - own[0]) / max(abs(zero[0]), TINY) for zero, own in zip(self.control, ends, strict=True)
        ]
        stable = all(
            math.isfinite(value) and value <= before + LEAST * abs(before)
            for zero, own in zip(self.control, ends, strict=True)
            for before, value in zip(zero, own, strict=True)
        )
        finite = [own[0] for own in ends if math.isfinite(own[0])]
        with np.errstate(over="ignore"):  # a rate far beyond the limit ends at 1e200
            mean = float(np.mean(gains)) if len(finite) == len(ends) else -math.inf
            error = float(np.std(gains, ddof=1) / math.sqrt(len(gains))) if math.isfinite(mean) else math.nan
            loss = self.sign * float(np.mean(finite)) if finite else math.nan
        self.rows[rate] = row = Row(rate, loss, mean, error, stable, tuple(gains))
        return row

    def _ends(self, run: Run) -> tuple[float, float]:
        """Mean of the late batch losses, and the loss at the end; infinite where the run diverged."""
        if run.status == "diverged":
            return math.inf, math.inf
        late = run.history.series("train_loss").values[self.late]
        return self.sign * float(np.mean(late)), self.sign * float(run.summary["train_loss"])

    def _falls(self, runs: Sequence[Run]) -> bool:
        """Whether the weights move at rate 0: then something else than the rate decides."""
        run = runs[0]
        fresh = self.problem.build(self.seeds[0], self.recipe.init)
        trained = {name for name, _ in fresh.named_parameters()}
        kept = run.state("last")
        return any(
            not torch.equal(value.cpu().double(), kept[name].cpu().double())
            for name, value in fresh.state_dict().items()
            if name in trained and name in kept
        )

    def _scan(self) -> None:
        for rate in FIRST:
            row = self._try(rate)
            if row is None or not any(math.isfinite(each) for each in row.gains):
                return

    def _widen(self) -> None:
        """More rates below and above while the best stands at an end."""
        while (best := self._best()) is not None and best.lr == max(self.rows) and best.lr < HIGHEST:
            if self._try(10 * best.lr) is None:
                return
        while self.rows and min(self.rows) > LOWEST:
            lowest, best = self.rows[min(self.rows)], self._best()
            if lowest.stable and (best is None or best.lr > lowest.lr):
                return
            if self._try(lowest.lr / 10) is None:
                return

    def _refine(self) -> None:
        best = self._best()
        if best is None:
            return
        for power in (-3, -2, -1, 1, 2, 3):
            self._try(best.lr * FINE**power)
        around = self._best() or best
        for power in (-1, 1):
            self._try(around.lr * FINE**power)

    def _bisect(self) -> None:
        """The edge of stability, to a factor of `EDGE`."""
        for _ in range(12):
            limit = self._limit()
            if limit is None or limit[1] / limit[0] <= EDGE:
                return
            if self._try(math.sqrt(limit[0] * limit[1])) is None:
                return

    # -- judging ------------------------------------------------------------------------------------------

    def _best(self) -> Row | None:
        return max((row for row in self.rows.values() if row.stable), key=lambda row: row.gain, default=None)

    def _limit(self) -> tuple[float, float] | None:
        """The last rate below which all are stable, and the next."""
        rates = sorted(self.rows)
        first = next((rate for rate in rates if not self.rows[rate].stable), None)
        below = [rate for rate in rates if first is not None and rate < first]
        return None if first is None or not below else (below[-1], first)

    def _useless(self) -> str | None:
        """Why no rate can be named; None where one can."""
        best = self._best()
        size = float(np.mean([abs(zero[0]) for zero in self.control]))
        spread = [row.loss for row in self.rows.values() if math.isfinite(row.loss)]
        if not self.rows:
            return "the time was up before a rate was tried"
        span = f"{min(self.rows):.2g} to {max(self.rows):.2g}"
        flat = len(spread) > 2 and max(spread) - min(spread) <= 1e-6 * max(size, 1e-300)
        if flat and self.moved:
            return f"the loss does not depend on the rate: it is the same from {span}, and at 0"
        if best is None:
            return f"no rate from {span} is stable: the loss of a seed ends higher than it began"
        if best.gain <= LEAST:
            slope = self._slope()
            if flat and slope > 1e-6 * max(size, 1e-300):
                return f"the loss does not depend on the rate: it is the same from {span}"
            return (
                f"no rate from {span} lowers the loss by {LEAST:.1%} in {self.steps} steps: the start is as "
                f"good as it gets (loss {self.sign * self.control[0][0]:.4g}, gradient norm {slope:.2g})"
            )
        if not self._lower(best.gains) > 0:
            return (
                f"the seeds disagree whether any rate lowers the loss in {self.steps} steps (best "
                f"{best.lr:.2g}: {best.gain:.2g} +- {best.stderr:.2g}); give more steps or seeds"
            )
        if best.lr >= HIGHEST or best.lr <= LOWEST:
            return (
                f"the loss falls most at {best.lr:.0e}, the end of what is tried: scale the loss or the model"
            )
        return None

    def _lower(self, values: Sequence[float]) -> float:
        """Lower end of the 95 % interval of a mean, ``mean - t s / sqrt(n)``."""
        from scipy.special import stdtrit

        n = len(values)
        return float(np.mean(values) - stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n))

    def _slope(self) -> float:
        """Norm of the gradient of the first batch at the start."""
        model = self.problem.build(self.seeds[0], self.recipe.init)
        size = self.recipe.batch_size if isinstance(self.recipe.batch_size, int) else 2**31
        dtype = next(model.parameters()).dtype
        batch = next(iter(self.problem.train_source.epoch(size, self.seeds[0], 0)))
        value = Objective(self.problem)(model, batches.to(batch, torch.device("cpu"), dtype)).value
        value.backward()
        return math.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None))

    def _answer(self) -> RateRange:
        best = self._best()
        if best is None:
            return self._refuse("no rate is stable")
        rates = sorted(rate for rate, row in self.rows.items() if row.stable)
        at = rates.index(best.lr)
        near = [best.lr]
        for side in (reversed(rates[:at]), rates[at + 1 :]):
            for rate in side:
                if self.rows[rate].gain < NEAR * best.gain:
                    break
                near.append(rate)
        alike = [rate for rate in rates if self._same(self.rows[rate], best)]
        return self._made(
            low=min(near),
            high=max(near),
            suggested=best.lr,
            interval=(min([*alike, best.lr]), max([*alike, best.lr])),
            reason=None,
        )

    def _same(self, row: Row, best: Row) -> bool:
        """Whether a rate cannot be told from the best, seed by seed."""
        differences = [a - b for a, b in zip(best.gains, row.gains, strict=True)]
        return row.gain >= 0.5 * best.gain and not self._lower(differences) > 0

    def _refuse(self, reason: str) -> RateRange:
        return self._made(low=None, high=None, suggested=None, interval=None, reason=reason)

    def _made(self, **found: Any) -> RateRange:
        zero = float(np.mean([each[0] for each in self.control])) if self.control else math.nan
        return RateRange(
            limit=self._limit(),
            table=tuple(self.rows[rate] for rate in sorted(self.rows)),
            steps=self.steps,
            seeds=self.seeds,
            seconds=time.monotonic() - self.begun,
            baseline=self.sign * zero,
            **found,
        )


def _seen(problem: Problem, recipe: Recipe, steps: int) -> Problem:
    """The problem with as many examples as the steps can see; a full batch stays whole."""
    source = problem.train_source
    if not isinstance(source, Memory) or recipe.batch_size == "full":
        return problem
    most = max(int(recipe.batch_size) * steps, 1)
    if source.size <= most:
        return problem
    return problem.edit(train=Memory(drawn(source, source.batch, most)))


def _constant(problem: Problem) -> bool:
    """Whether data in memory has one target for all examples."""
    source = problem.train_source
    if not isinstance(source, Memory) or problem.objective is None:
        return False
    target = problem.splitter(source.batch)[2]
    if not isinstance(target, Tensor) or len(target) < 2 or target is source.batch:
        return False
    return bool((target == target[:1]).all())
