"""Batch sizes against the clock: one example, a few, many, all of them, as loss over seconds.

One example a step is data-efficient, all of them computation-efficient; on a logarithmic axis of seconds the
trade is seen at once. Every size is trained alone, with a rate of its own.

    mean of the batch losses between two points of the picture        an unbiased look at the loss about there
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from downslope.core import names
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.space.applied import quiet
from downslope.racing.pace import middle, pace
from downslope.racing.written import written
from downslope.training.fit import fit
from downslope.training.hushed import hushed
from downslope.training.population import fit_population
from downslope.training.price import Clock, total_steps
from downslope.training.progress import Progress

Floats = npt.NDArray[np.float64]
Size = int | Literal["full"]
Rate = Literal["tuned", "scaled", "same"]

POINTS = 40
"""Points of a curve at most, evenly in the logarithm of the steps."""
SIZES: tuple[Size, ...] = (1, 10, 100, "full")


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """One batch size.

    Attributes:
        size: Examples a step.
        lr: The rate that was used.
        steps: Where the losses are, in the middle of what they are means of; shape (k,).
        seconds: Since the first step began, on the clock; shape (k,).
        loss: Mean training loss, shape (k,).
        epochs: Passes over the data at each point.
        total: Seconds of the whole run.
        end: Training loss of the last model, on all examples as far as there was time.
        status: As `Run.status`.
    """

    size: Size
    lr: float | None
    steps: Floats
    seconds: Floats
    loss: Floats
    epochs: Floats
    total: float
    end: float
    status: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return plain({key: getattr(self, key) for key in self.__dataclass_fields__})


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchRace:
    """What `batch_sizes` found.

    Attributes:
        curves: One for each size, in the order given.
        rate: How rates were chosen: "tuned", "scaled" or "same".
        trials: Runs that each rate was tuned by; 0 where it was not.
        optimizer: Name.
        notes: What has to be known beside the figures.
        status: "done" or "interrupted".
    """

    curves: Sequence[Curve]
    rate: Rate
    trials: int
    optimizer: str
    notes: list[str] = field(default_factory=list[str])
    status: str = "done"

    def table(self) -> str:
        """The sizes as text: rate, loss after each pass that is told, seconds."""
        head = f"{'batch':>6}  {'lr':>9}  {'steps':>7}  {'ms a step':>9}  {'seconds':>8}  {'loss at end':>11}"
        made = [head]
        for each in self.curves:
            taken = float(each.steps[-1]) if len(each.steps) else math.nan
            pace = 1e3 * each.total / taken if taken else math.nan
            rate = "-" if each.lr is None else f"{each.lr:.3g}"
            end = f"{each.end:.4g}" if math.isfinite(each.end) else each.status
            made.append(
                f"{each.size:>6}  {rate:>9}  {taken:>7.0f}  {pace:>9.3g}  {each.total:>8.3g}  {end:>11}"
            )
        said = {
            "tuned": f"rates: each tuned by {self.trials} runs in the same range",
            "scaled": "rates: scaled with the batch from the recipe's",
            "same": "rates: the recipe's own for every batch",
        }[self.rate]
        runs = "loss at end: of the training data; one run of each size: small differences say nothing"
        return "\n".join([*made, said, runs, *(f"note: {each}" for each in self.notes)])

    def __str__(self) -> str:
        return self.table()

    def best_at(self, seconds: float) -> Size | None:
        """The size with the lowest loss after so many seconds; None before any has a point."""
        found: dict[Size, float] = {}
        for each in self.curves:
            before = each.loss[each.seconds <= seconds]
            if len(before):
                found[each.size] = float(before[-1])
        return min(found, key=lambda size: found[size]) if found else None

    def plot(self) -> Any:
        """A plotly figure: loss against seconds, both axes logarithmic where they can be."""
        return names.load("downslope.reporting.races:plot_batches")(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "optimizer": self.optimizer, "rate": self.rate, "trials": self.trials, "status": self.status,
            "curves": [each.to_dict() for each in self.curves], "notes": self.notes,
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write it as JSON.

        Raises:
            InputError: the file cannot be written.
        """
        return written(self.to_dict(), path)


def batch_sizes(
    problem: Problem,
    recipe: Recipe | None = None,
    sizes: Sequence[Size] = SIZES,
    *,
    rate: Rate = "tuned",
    trials: int = 8,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
    begin: Callable[[str], None] | None = None,
) -> BatchRace:
    """Train with several batch sizes and follow the training loss against the clock.

    All sizes make the same number of passes over the data: one example a step takes most steps and most
    seconds, the whole set one step a pass. The runs that are timed train alone, one after another.

    Args:
        problem: With data in memory, whose size is known.
        recipe: Optimizer and passes; its rate is of its own batch size. Plain SGD of 1 pass if left out.
        sizes: Examples a step, each in [1, n], or "full"; at least two.
        rate: "tuned": each size has the best of `trials` rates from 1e-3 to 10, the same for all;
            "scaled": the recipe's, in proportion to the batch (by the root for adaptive methods); "same".
        trials: Runs of each size's tuning, in [1, inf).
        seconds: Longest time, in (0, inf): fewer trials for all where they do not fit, and at worst shorter
            runs, each with an equal share of what is left.
        seed: Of the runs.
        progress: Whether to show how far it is.
        begin: Is given the price before the first run.

    Returns:
        The curves; Ctrl-C keeps those that are whole.

    Raises:
        InputError: fewer than two sizes, one that the data has not, a rate that is none of the three or that
            cannot be scaled, or data whose size is not known.
    """
    check_asked(problem, recipe)
    recipe = recipe or Recipe(optimizer="sgd", epochs=1)
    n = problem.train_source.size
    if n is None:
        raise InputError("batch sizes need data whose size is known: give tensors or a dataset")
    chosen = _checked(sizes, n)
    if rate not in ("tuned", "scaled", "same"):
        raise InputError(f"rate={rate!r}: must be 'tuned', 'scaled' or 'same', how each size gets its rate")
    if trials < 1:
        raise InputError(f"trials={trials!r}: must be 1 or more")
    if rate == "scaled" and recipe.lr is None:
        raise InputError("rate='scaled' scales the recipe's rate, and it says none: give lr, or rate='tuned'")
    ends = None if seconds is None else time.monotonic() + seconds
    bare = problem.edit(valid=None, goal=None, metric=None)
    found = BatchRace(
        curves=[], rate=rate, trials=trials if rate == "tuned" else 0, optimizer=str(recipe.optimizer)
    )
    with hushed(), quiet():
        try:
            found = _priced(found, bare, recipe, chosen, n, seconds, begin)
            for place, size in enumerate(chosen):
                own = _rated(bare, recipe, size, n, found, seed, progress)
                share = None if ends is None else max(ends - time.monotonic(), 0.1) / (len(chosen) - place)
                found = replace(found, curves=[*found.curves, _curve(bare, own, size, n, progress, share)])
        except KeyboardInterrupt:
            found = replace(found, status="interrupted")
    return found


def _priced(
    found: BatchRace, problem: Problem, recipe: Recipe, sizes: Sequence[Size], n: int, seconds: float | None,
    begin: Callable[[str], None] | None,
) -> BatchRace:  # fmt: skip
    """Time a step of each size, take the trials that fit, and say what it will cost."""
    own = {str(size): _sized(recipe, size, n, recipe.lr, 0) for size in sizes}
    paces = middle(pace(problem, own, rounds=1))
    each = sum(paces[name] * (total_steps(problem, one) or 0) for name, one in own.items())
    if seconds is not None and found.trials and each:
        fitting = max(1, min(found.trials, math.floor(0.9 * seconds / each) - 1))
        if fitting < found.trials:
            found.notes.append(
                f"{fitting} trials each instead of {found.trials}: more do not fit into {seconds:g} s"
            )
            found = replace(found, trials=fitting)
    extra = f" after {found.trials} to tune each" if found.trials else ""
    said = f"a run of {recipe.epochs or 1} passes{extra}, at most {(1 + found.trials) * each:.3g} s"
    if begin is not None:
        begin(f"batch sizes {', '.join(own)}: {said}")
    return found


def _checked(sizes: Sequence[Size], n: int) -> list[Size]:
    found: list[Size] = []
    for each in sizes:
        given: Any = each
        whole = isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= n
        if not whole and given != "full":
            raise InputError(f"batch size {given!r}: must be an integer in [1, {n}], the examples, or 'full'")
        if each not in found:
            found.append(each)
    if len(found) < 2:
        raise InputError(f"batch sizes {list(sizes)}: give two or more, such as 1, 10, 100, 'full'")
    return found


def _rated(
    problem: Problem, recipe: Recipe, size: Size, n: int, found: BatchRace, seed: int, progress: bool
) -> Recipe:
    """The recipe of one size, with its rate."""
    if found.rate == "scaled":
        start = n if recipe.batch_size == "full" else min(recipe.batch_size, n)
        lr = recipe.edit(batch_size=start, lr=recipe.lr).edit(batch_size=n if size == "full" else size).lr
    else:
        lr = recipe.lr
    own = _sized(recipe, size, n, lr, seed)
    if found.rate != "tuned":
        return own
    rates = rates_of(found.trials)
    runs = fit_population(
        problem, [own.edit(lr=each) for each in rates], strict=False, progress=progress,
        label=f"batch {size}: rates",
    )  # fmt: skip
    if any(run.status == "interrupted" for run in runs):
        raise KeyboardInterrupt
    ends = [_end(run) for run in runs]
    best = int(np.argmin([each if math.isfinite(each) else math.inf for each in ends]))
    if not any(map(math.isfinite, ends)):
        found.notes.append(f"batch {size}: no rate of those tried comes to an end")
    elif best in (0, len(rates) - 1) and len(rates) > 1:
        found.notes.append(
            f"batch {size}: the best rate {rates[best]:.3g} lies at the edge of what was tried"
        )
    return own.edit(lr=rates[best])


def _sized(recipe: Recipe, size: Size, n: int, lr: float | None, seed: int) -> Recipe:
    """The recipe with this batch and rate, for its passes over the data."""
    epochs = recipe.epochs or 1 if recipe.steps is None else _passes(recipe, n)
    return recipe.edit(batch_size=size, lr=lr, seed=seed, epochs=epochs)


def rates_of(trials: int) -> list[float]:
    """Rates evenly in the logarithm from 1e-3 to 10: every size has the same ones."""
    return [0.1] if trials == 1 else [float(f"{each:.3g}") for each in np.logspace(-3, 1, trials)]


def _passes(recipe: Recipe, n: int) -> int:
    size = n if recipe.batch_size == "full" else min(recipe.batch_size, n)
    return max(1, round((recipe.steps or 1) * size / n))


def _end(run: Run) -> float:
    found = run.summary.get("train_loss")
    return math.inf if run.status in ("diverged", "failed") or found is None else float(found)


def _curve(
    problem: Problem, recipe: Recipe, size: Size, n: int, progress: bool, seconds: float | None
) -> Curve:
    clock = Clock()
    with Progress(f"batch {size}", None, shown=progress, brief=True) as bar:
        bar.note("timed run")
        run = fit(problem, recipe, folder=False, progress=False, observe=0.0, on_probe=clock, seconds=seconds)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    series = run.history.series("train_loss")
    total = clock.last - clock.first
    taken = int(run.summary.get("steps") or len(series.steps) or 1)
    steps, loss = binned(series.steps.astype(np.float64), series.values)
    each = n if size == "full" else min(size, n)
    return Curve(
        size=size, lr=recipe.lr, steps=steps, seconds=steps * total / taken, loss=loss,
        epochs=steps * each / n, total=total, end=_end(run), status=run.status,
    )  # fmt: skip


def binned(steps: Floats, loss: Floats, points: int = POINTS) -> tuple[Floats, Floats]:
    """Losses in at most `points` bins even in the logarithm of the step: last step and mean loss of each."""
    if not len(steps):
        return steps, loss
    spread: Floats = np.geomspace(1, float(steps[-1]) + 1, points + 1)
    edges: Floats = np.unique(np.rint(spread))
    place = np.searchsorted(edges, steps, side="right")
    kept = np.unique(place)
    ends = np.asarray([steps[place == each][-1] for each in kept])
    means = np.asarray([loss[place == each].mean() for each in kept])
    return ends, means
