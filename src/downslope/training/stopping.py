"""When to stop, and which weights were the best: goal, patience, validation, the user."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Generator
from typing import Any, Literal, NamedTuple

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import Source
from downslope.training.evaluate import Evaluation


class Watchman:
    """Follows the measure one cares for from epoch to epoch.

    The measure is the metric on validation data; without a metric the validation loss. Without validation
    data there is no best and no patience, and only the goal can stop, on the training metric.

    Args:
        problem: Says which way is better and what is good enough.
        patience: Epochs without improvement before stopping; None never.
    """

    def __init__(self, problem: Problem, patience: int | None) -> None:
        self.problem = problem
        self.patience = patience
        self.best: float | None = None
        self.best_loss = math.nan
        self.best_step = 0
        self.waited = 0

    def improved(self, value: float, step: int, loss: float = math.nan) -> bool:
        """Take note of a measurement; whether it is the best so far.

        Among equal metrics the better validation loss wins, but only the metric renews patience.
        """
        if self.best is None or self.problem.better(value, self.best):
            self.best, self.best_loss, self.best_step, self.waited = value, loss, step, 0
            return True
        self.waited += 1
        lower = loss > self.best_loss if self.problem.maximize else loss < self.best_loss
        if value == self.best and lower:
            self.best_loss, self.best_step = loss, step
            return True
        return False

    @property
    def blind(self) -> bool:
        """Whether every measurement so far was NaN, so that no weights can be called the best."""
        return self.best is not None and math.isnan(self.best)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= self.patience

    def state(self) -> dict[str, Any]:
        """Plain values for the resume state."""
        names = ("best", "best_loss", "best_step", "waited")
        return {name: getattr(self, name) for name in names}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        for name, value in saved.items():
            setattr(self, name, value)


class Verdict(NamedTuple):
    """What one evaluation decides."""

    best: bool
    """Whether these weights are the ones to keep; of nothing but NaN, the latest."""
    ends: Literal["goal", "early-stopped"] | None
    """The status with which the run ends here; None where it goes on."""


def verdict(
    watchman: Watchman,
    problem: Problem,
    found: Evaluation,
    step: int,
    *,
    on_validation: bool,
    first: bool = False,
    going: bool = True,
    through: bool = False,
) -> Verdict:
    """What an evaluation after `step` steps decides: the best weights so far, and whether the run ends.

    Args:
        watchman: Takes note of a measurement on validation data.
        problem: Says what is good enough.
        found: The evaluation.
        step: Optimizer steps before it.
        on_validation: Whether it was made on validation data; on training data there is a goal only.
        first: Whether it was made before the first step, which ends nothing.
        going: Whether the run is not over for another reason.
        through: Whether the run is as long as its recipe says: patience that ends there stops nothing.
    """
    best = on_validation and (watchman.improved(found.measure, step, found.loss) or watchman.blind)
    if first or not going:
        return Verdict(best, None)
    if problem.reached(found.measure):
        return Verdict(best, "goal")
    return Verdict(best, "early-stopped" if watchman.exhausted and not through else None)


_heard = 0


def interruptions() -> int:
    """How often Ctrl-C or SIGTERM has ended a run in this process; a verb that trains more compares."""
    return _heard


_going: list[Callable[[], None]] = []


def stop_all() -> None:
    """End the runs of this process after the step that they are in: Ctrl-C for threads, which hear none."""
    for stop in tuple(_going):
        stop()


@contextlib.contextmanager
def stoppable(stop: Callable[[], None]) -> Generator[None]:
    """Ctrl-C and SIGTERM end the run after the step it is in; a second one raises at once."""
    _going.append(stop)
    try:
        with _heard_by(stop):
            yield
    finally:
        _going.remove(stop)


@contextlib.contextmanager
def _heard_by(stop: Callable[[], None]) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former: dict[int, Any] = {}

    def handler(number: int, frame: Any) -> None:
        global _heard  # noqa: PLW0603 (a signal is the process's, not a run's)
        del frame
        _heard += 1
        stop()
        signal.signal(number, former[number] or signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old or signal.SIG_DFL)


def total_steps(recipe: Recipe, train: Source, batch_size: int) -> int | None:
    """Steps of a whole run; None where the data does not tell how long an epoch is."""
    each = train.steps(batch_size)
    return recipe.steps or (each * (recipe.epochs or 1) if each else None)


MOST_EVALUATIONS = 500
"""Evaluations over a run without patience; full-batch runs with thousands of epochs skip some."""


def evaluation_due(recipe: Recipe, epoch: int, total: int | None, per_epoch: int | None) -> bool:
    """Whether a run is evaluated after `epoch` epochs.

    Args:
        recipe: Of the run; patience counts evaluations, and skips none.
        epoch: Counted from 1.
        total: Steps of the run; None where the data do not tell.
        per_epoch: Steps of an epoch; None where the data do not tell.
    """
    if recipe.patience is not None or total is None or not per_epoch:
        return True
    return epoch % max(1, total // per_epoch // MOST_EVALUATIONS) == 0
