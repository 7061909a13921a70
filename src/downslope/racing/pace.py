"""Seconds of one step of each contestant, alone on the machine and in turns.

A race counts steps, and multiplies: seconds of runs that train together, or beside others, belong to nobody.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.evaluate import evaluate
from downslope.training.fit import fit
from downslope.training.hushed import hushed
from downslope.training.price import Clock, total_steps

ROUNDS = 3
SPAN = 0.1
"""Seconds that a round of one contestant shall last, as far as its run is that long."""
MOST = 64
"""Steps of a round at most."""
FIRST = 3


def pace(problem: Problem, recipes: Mapping[str, Recipe], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Name to seconds of a step, data and all, without evaluations: the median of rounds in turns.

    Args:
        problem: Of the race.
        recipes: As they race.
        rounds: At least 1.

    Raises:
        KeyboardInterrupt: Ctrl-C in one of them.
    """
    counts: dict[str, int] = {}
    for name, recipe in recipes.items():
        each = max(_seconds(problem, recipe, FIRST), 1e-6)
        most = total_steps(problem, recipe) or MOST
        counts[name] = max(1, min(MOST, most, round(SPAN / each)))
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(max(1, rounds)):
        for name, recipe in recipes.items():
            found[name].append(_seconds(problem, recipe, counts[name]))
    return {name: statistics.median(each) for name, each in found.items()}


@hushed()
def _seconds(problem: Problem, recipe: Recipe, steps: int) -> float:
    clock = Clock()
    bare = problem.edit(valid=None, goal=None)
    short = recipe.edit(steps=steps, patience=None, lr=recipe.lr)
    run = fit(bare, short, folder=False, progress=False, observe=0.0, on_probe=clock)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    taken = int(run.summary.get("steps") or steps)
    return (clock.last - clock.first) / max(taken, 1)


def judging(problem: Problem, recipe: Recipe) -> float:
    """Seconds that evaluations take in one run: one pass over held-out data is timed, on fresh weights.

    A run judges once before its first step and after every epoch, and at its end the training data too.
    """
    source = problem.valid_source or problem.train_source
    size, trained, steps = source.size, problem.train_source.size or 0, total_steps(problem, recipe)
    if not size or not steps:
        return 0.0
    begun = time.monotonic()
    evaluate(problem, problem.build(recipe.seed, recipe.init), source)
    each = (time.monotonic() - begun) / size
    batch = trained if recipe.batch_size == "full" else recipe.batch_size
    epochs = steps * batch / trained if trained else 0.0
    held = 0 if problem.valid_source is None else size
    return each * (held * (1 + epochs) + trained)
