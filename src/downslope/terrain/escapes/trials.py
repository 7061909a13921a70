"""Who left, with which probability and when: what `escape` gives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from downslope.core import names
from downslope.core.errors import UnknownNameError
from downslope.terrain.escapes.sites.site import Site
from downslope.terrain.surveys.kind import Kind


@dataclass(frozen=True)
class Trial:
    """One method at one rate and batch size, over all seeds.

    Attributes:
        method: Its name.
        lr: Its rate.
        batch_size: Examples in a batch; all of them is descent without noise.
        left: Step at which each seed was first outside, infinite where it never was; shape (seeds,).
        budget: Steps after which a seed counts as not having left.
        uphill: Seeds that were higher when they left than when they started: over a barrier, or because the
            steps were unstable.
        paths: Places of the first seeds at every step, shape (steps + 1, kept, size); empty unless asked for.
    """

    method: str
    lr: float
    batch_size: int
    left: npt.NDArray[np.float64]
    budget: int
    uphill: int = 0
    paths: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0)), repr=False)

    @property
    def seeds(self) -> int:
        """How many there were."""
        return len(self.left)

    @property
    def escaped(self) -> int:
        """How many left."""
        return int(np.count_nonzero(np.isfinite(self.left)))

    @property
    def censored(self) -> int:
        """How many had not left when their steps were over: their time is more than the budget."""
        return self.seeds - self.escaped

    @property
    def probability(self) -> float:
        """Share that left within the budget."""
        return self.escaped / self.seeds

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the probability (1927)."""
        from scipy.stats import binomtest

        found: Any = binomtest(self.escaped, self.seeds).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)

    def quantile(self, share: float) -> float:
        """Step by which `share` of all seeds had left; infinite where fewer ever did.

        Those that did not leave count as later than all others, so that the median is not that of the quick.
        """
        return float(np.sort(self.left)[max(0, math.ceil(share * self.seeds) - 1)])

    @property
    def median(self) -> float:
        """Step by which half had left."""
        return self.quantile(0.5)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Steps by which a quarter and three quarters had left."""
        return self.quantile(0.25), self.quantile(0.75)

    def row(self) -> dict[str, Any]:
        """The trial as plain values; None for what is infinite."""
        low, high = self.interval
        steps = {"q25": self.quartiles[0], "median": self.median, "q75": self.quartiles[1]}
        return {
            "method": self.method, "lr": self.lr, "batch_size": self.batch_size, "seeds": self.seeds,
            "escaped": self.escaped, "probability": self.probability, "low": low, "high": high,
            **{name: int(value) if math.isfinite(value) else None for name, value in steps.items()},
            "budget": self.budget, "uphill": self.uphill,
        }  # fmt: skip


@dataclass(frozen=True)
class Escapes:
    """Who left, and when.

    Attributes:
        site: Where from.
        spread: Standard deviation of a start around the point, along each coordinate.
        kind: What the point is (`downslope.terrain.surveys.kind`).
        slope: Length of the gradient at the point: 0 where it is critical.
        lowest: Smallest eigenvalue of the Hessian at the point; below 0 at a saddle.
        highest: The largest.
        trials: A trial for each method, rate and batch size.
        notes: What is to be known, such as what was left out.
        interrupted: Whether Ctrl-C ended it.
    """

    site: Site = field(repr=False)
    spread: float
    kind: Kind
    slope: float
    lowest: float
    highest: float
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    interrupted: bool = False

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def __getitem__(self, method: str) -> Trial:
        """The first trial of a method.

        Raises:
            UnknownNameError: it was not tried.
        """
        for each in self.trials:
            if each.method == method:
                return each
        raise UnknownNameError(
            f"{method!r} was not tried{names.did_you_mean(method, {each.method for each in self.trials})}"
        )

    def label(self, trial: Trial) -> str:
        """The method of a trial, with what tells it from the others of that method."""
        own = [each for each in self.trials if each.method == trial.method]
        rate = f", lr {trial.lr:g}" if len({each.lr for each in own}) > 1 else ""
        size = f", batch {trial.batch_size}" if len({each.batch_size for each in own}) > 1 else ""
        return f"{trial.method}{rate}{size}"

    def animate(self, **options: Any) -> Any:
        """The members on the move, see `downslope.reporting.animation.escaping`; needs `keep`.

        Raises:
            InputError: no paths were kept, or the ground has more than 2 coordinates.
        """
        return names.load("downslope.reporting.animation:escaping")(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "site": self.site.name, "region": self.site.region, "kind": self.kind, "slope": self.slope,
            "lowest": self.lowest, "highest": self.highest, "spread": self.spread, "trials": self.rows(),
            "notes": list(self.notes), "interrupted": self.interrupted,
        }  # fmt: skip

    def rows(self) -> list[dict[str, Any]]:
        """A dict of plain values for each trial."""
        return [each.row() for each in self.trials]

    def __str__(self) -> str:
        kind = "" if f" {self.kind} " in self.site.name else f"{self.kind}, "
        head = (
            f"{self.site.name}: {kind}eigenvalues {self.lowest:.3g} to {self.highest:.3g}; "
            f"inside: {self.site.region}; starts spread by {self.spread:g}"
        )
        wide = max(10, *(len(each.method) + 1 for each in self.trials))
        titles = (
            f"{'method':<{wide}}{'lr':>7}{'batch':>7}  {'left':>9}  {'95 %':>12}  median step (quartiles)"
        )
        notes = [f"note: {each}" for each in self.notes]
        return "\n".join([head, titles, *(_line(each, wide) for each in self.trials), *notes])


def _line(trial: Trial, wide: int) -> str:
    low, high = trial.interval
    first, last = trial.quartiles
    steps = (
        f"{_step(trial, trial.median)} ({_step(trial, first)} to {_step(trial, last)})"
        if trial.escaped
        else f"none in {trial.budget}"
    )
    share = f"{trial.escaped}/{trial.seeds}"
    chance = f"{low:.2f} to {high:.2f}"
    return f"{trial.method:<{wide}}{trial.lr:>7g}{trial.batch_size:>7}  {share:>9}  {chance:>12}  {steps}"


def _step(trial: Trial, value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else f"> {trial.budget}"
