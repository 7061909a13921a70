"""Seconds of one step of each contestant, alone on the machine and in turns.

A race counts steps, and multiplies: seconds of runs that train together, or beside others, belong to nobody.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Mapping

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.evaluate import evaluate
from downslope.training.fit import fit
from downslope.training.hushed import hushed
from downslope.training.price import Clock, total_steps
from downslope.training.state import StepState

ROUNDS = 3
JUDGED = 9
"""Rounds where seconds decide: all of them on one side of the truth has a chance of 2^-9."""
SPAN = 0.1
"""Seconds that a round of one contestant shall last, as far as its run is that long."""
MOST = 64
"""Steps of a round at most."""
LONG = 2.0
"""Seconds of an evaluation of which one is enough."""
FIRST = 3
"""Steps of the first look at a contestant, which is not counted."""


class _Timed(Exception):  # noqa: N818 (no error: the steps are done, nothing is to be scored)
    """The steps that were to be timed are done."""


class _Watch(Clock):
    """Takes the time of a loop and ends its run there: what would follow is the scoring."""

    steps = 0

    def __call__(self, state: StepState) -> None:
        """Take the time.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            _Timed: the loop has ended.
        """
        super().__call__(state)
        self.steps = state.step
        if state.run.status == "interrupted":
            raise KeyboardInterrupt
        if state.run.status != "running":
            raise _Timed


def first_look(problem: Problem, recipe: Recipe) -> float:
    """Seconds of a step of few, cold caches and all; what cannot be trained raises here.

    Raises:
        KeyboardInterrupt: Ctrl-C on the way.
    """
    return max(_seconds(problem, recipe, FIRST), 1e-6)


def pace(
    problem: Problem,
    recipes: Mapping[str, Recipe],
    *,
    rounds: int = ROUNDS,
    looks: Mapping[str, float] | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, list[float]]:
    """Name to seconds of a step in each round, data and all, without evaluations.

    The contestants run in turns, in every other round the other way about.

    Args:
        problem: Of the race.
        recipes: As they race.
        rounds: At least 1.
        looks: What `first_look` gave; taken here if left out.
        tell: Is given who is timed.

    Raises:
        KeyboardInterrupt: Ctrl-C in one of them.
    """
    looks = looks or {name: first_look(problem, recipe) for name, recipe in recipes.items()}
    counts: dict[str, int] = {}
    for name, recipe in recipes.items():
        most = total_steps(problem, recipe) or MOST
        counts[name] = max(1, min(MOST, most, round(SPAN / looks[name])))
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for turn in range(max(1, rounds)):
        for name in list(recipes)[:: -1 if turn % 2 else 1]:
            if tell is not None:
                tell(name)
            found[name].append(_seconds(problem, recipes[name], counts[name]))
    return found


def middle(rounds: Mapping[str, list[float]]) -> dict[str, float]:
    """Name to the median over the rounds."""
    return {name: statistics.median(each) for name, each in rounds.items()}


def _seconds(problem: Problem, recipe: Recipe, steps: int) -> float:
    watch = _Watch()
    bare = problem.edit(valid=None, goal=None)
    short = recipe.edit(steps=steps, patience=None, lr=recipe.lr)
    with hushed(), contextlib.suppress(_Timed):
        fit(bare, short, folder=False, progress=False, observe=0.0, on_probe=watch)
    return (watch.last - watch.first) / max(watch.steps, 1)


def judging(problem: Problem, recipe: Recipe) -> float:
    """Seconds that evaluations take in one run: one pass over held-out data is timed, on fresh weights.

    A run judges once before its first step and after every epoch, and at its end the training data too.
    """
    source = problem.valid_source or problem.train_source
    size, trained, steps = source.size, problem.train_source.size or 0, total_steps(problem, recipe)
    if not size or not steps:
        return 0.0
    model = problem.build(recipe.seed, recipe.init)
    taken = math.inf
    for _ in range(3):  # the first pass is a cold one, which counts only where it is long
        begun = time.monotonic()
        evaluate(problem, model, source)
        taken = min(taken, time.monotonic() - begun)
        if taken > LONG:
            break
    each = taken / size
    batch = trained if recipe.batch_size == "full" else recipe.batch_size
    epochs = steps * batch / trained if trained else 0.0
    held = 0 if problem.valid_source is None else size
    return each * (held * (1 + epochs) + trained)
