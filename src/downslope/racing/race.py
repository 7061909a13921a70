"""The race: which of several optimizers or recipes is better, after equal tuning, on equal seeds."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from downslope.core.errors import InputError
from downslope.core.names import did_you_mean
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.racing import asked
from downslope.racing.contestants import Contestant, contestants_of
from downslope.racing.course import Course, Stop
from downslope.racing.kept import keep
from downslope.racing.ledger import Ledger
from downslope.racing.protocol import By, Protocol, described
from downslope.racing.remarks import remarked
from downslope.racing.result import Race
from downslope.racing.task import Task, task_of
from downslope.racing.times import FRACTION
from downslope.training.population.company import Way
from downslope.training.recorder import new_folder
from downslope.tuning.price import told as clock

SHARE = 0.9
"""Of the time that a race may take: what its runs are planned to take."""


def race(
    problem: Problem | Sequence[Problem] | Mapping[str, Problem],
    contestants: Sequence[str | Recipe] | Mapping[str, str | Recipe],
    *,
    seeds: int = 8,
    trials: int = 16,
    recipe: Recipe | Mapping[str, Recipe] | None = None,
    space: Mapping[str, Any] | None = None,
    by: By = "level",
    target: float | Mapping[str, float] | None = None,
    fraction: float = FRACTION,
    reference: str | None = None,
    early: bool = True,
    retune: bool = False,
    widen: bool = False,
    alpha: float = 0.05,
    seconds: float | None = None,
    seed: int = 0,
    folder: str | Path | Literal[False] | None = False,
    progress: bool = True,
    tell: Callable[[Race], None] | None = None,
    going: Callable[[str], None] | None = None,
    begin: Callable[[str], None] | None = None,
    command: Sequence[str] | None = None,
    workers: int = 1,
    ray: str | None = None,
    way: Way = "auto",
    **unknown: Any,
) -> Race:
    """Tune every contestant by the same number of runs, race all on the same fresh seeds, say who is better.

    Each contestant gets `trials` runs on each problem: first as given, then random draws from the default
    space of its optimizer (or from `space`), all with one seed. The best of them then runs with `seeds` seeds
    that the tuning never saw, the same for all. A winner is named only if its differences to every other are
    beyond chance (`downslope.racing.sequential`), and the race stops as soon as that is sure. What is
    compared are tuned recipes; with `retune` each seed has a tuning of its own, and what is compared are
    optimizers at this budget of tuning.

    Args:
        problem: One, several, or several by name. Judged by the metric on validation data, else the loss
            there; without validation data by the training loss, which is told.
        contestants: Names of optimizers, recipes, or a mapping of name to either; at least two. Torch's own
            classes as "torch.optim:ASGD".
        seeds: Fresh seeds of each contestant, in [2, inf). Below `Sequential.fewest` nothing can be decided.
        trials: Runs of the tuning of each contestant on each problem, in [0, inf); with 0 or 1 all race as
            given.
        recipe: What mere names share: batch size, length, schedule; or problem to recipe. The defaults of a
            recipe if left out.
        space: Key to dimension for all, or contestant to a space of its own; who has neither has the default.
        by: What decides: "level", or "steps" or "seconds" to the target.
        target: Level to reach, or problem to level. Left out, the problem's goal; without one, `fraction` of
            the way of `reference`.
        fraction: In (0, 1].
        reference: A contestant; left out, the one that was tuned best.
        early: Whether to stop once there is a winner.
        retune: Whether to tune anew for every seed.
        widen: Whether a contestant whose best trials lie at the end of its space draws the others from a
            wider one: by the same rule for all, and nobody gets a trial more.
        alpha: Chance of a winner where all are the same, in (0, 1).
        seconds: Longest time, in (0, inf): fewer trials for all, where they do not fit.
        seed: Of the tuning; the race has the seeds after it. In [0, 2**63).
        folder: Where outcomes are kept as they come, and found again by a race of the same protocol; None
            makes one, False keeps nothing.
        progress: Whether to show how far it is.
        tell: Is given the race so far after every stage.
        going: Is given what is in work, in words, whenever that changes.
        begin: Is given the price, before the first run.
        command: Words of the command line that asks for this race, kept in the folder.
        workers: As in `fit_population`.
        ray: As in `fit_population`.
        way: As in `fit_population`.
        **unknown: Refused, with the nearest that there is.

    Returns:
        The race; ``.winner`` is None where it is undecided. Diverged seeds count as worse than all others.

    Raises:
        InputError: fewer than two contestants, or fewer than two that can be trained, doubled names, fewer
            than two seeds, or an argument that a race has not.
        UnknownNameError: an optimizer that is not known; the nearest is told.
        SpaceError: a key that nothing has.
        RunFolderError: the folder holds another race.
        ClusterError: a cluster that cannot be joined.
    """
    asked.check_options(unknown, [*inspect.signature(race).parameters][:-1])
    problems = asked.problems_of(problem)
    protocol = Protocol(
        seeds=seeds, trials=trials, seed=seed, by=by, alpha=alpha, early=early, retune=retune, widen=widen,
        fraction=fraction, reference=reference,
    )  # fmt: skip
    shared = asked.shared_of(recipe, problems)
    racers = {name: contestants_of(contestants, shared[name]) for name in problems}
    known = [each.name for each in next(iter(racers.values()))]
    if reference is not None and reference not in known:
        raise InputError(f"reference={reference!r} is no contestant{did_you_mean(str(reference), known)}")
    asked.check_space(space, known)
    asked.check_folder(folder)
    targets, seconds = asked.targets_of(target, problems), asked.seconds_of(seconds)
    options: dict[str, Any] = asked.population_of(workers, ray, way)
    tasks = [task_of(name, each, racers[name], targets[name]) for name, each in problems.items()]
    if trials > 1:
        for task in tasks:
            for each in task.contestants:
                each.space(task.problem, space)
    where = new_folder("race") if folder is None else None if folder is False else Path(folder)
    ledger = Ledger(where, described(protocol, problems, racers, space, target))
    course = Course(
        tasks, protocol, ledger, space=space, progress=progress, tell=tell, going=going, options=options,
        until=None if seconds is None else time.monotonic() + seconds,
    )  # fmt: skip
    if command is not None:
        ledger.fact("command", list(command))
    try:
        _prepare(course, seconds, begin)
    except (Stop, KeyboardInterrupt) as ended:
        course.status = str(ended) or "interrupted"
        return keep(remarked(course.so_far(), course), ledger)
    return keep(remarked(course.go(), course), ledger)


def _prepare(course: Course, seconds: float | None, begin: Callable[[str], None] | None) -> None:
    """Time a step of everybody, say what it will cost, and cut the trials to what fits."""
    protocol = course.protocol
    each = sum(course.price(task) for task in course.tasks)
    able = course.racing
    if len(able) < 2:
        what = (
            f"only {able[0]} can be trained, and a race needs two" if able else "no contestant can be trained"
        )
        causes = [why for (_, name), why in course.out.items() if name not in able]
        raise InputError(f"{what}: {causes[0]}")
    rounds = protocol.seeds if protocol.retune else 1
    trials = course.ledger.facts.get("trials", protocol.trials)
    if seconds is not None and "trials" not in course.ledger.facts and each:
        room = (SHARE * seconds / each - protocol.seeds) / rounds
        trials = max(0, min(trials, math.floor(room)))
        if trials < protocol.trials:
            course.ledger.fact(
                "cut",
                f"{trials} trials each instead of {protocol.trials}: more do not fit into {seconds:g} s",
            )
    course.trials = trials
    course.ledger.fact("trials", trials)
    if (cut := course.ledger.facts.get("cut")) is not None:
        course.notes.append(cut)
    runs = sum(len(course.able(task)) for task in course.live) * (trials * rounds + protocol.seeds)
    course.need = each * protocol.seeds
    if begin is not None:
        kept = f", {course.ledger.found} of them there already" if course.ledger.found else ""
        total = clock(each * (trials * rounds + protocol.seeds))
        fewest = protocol.test(len(course.tasks[0].contestants)).fewest
        few = (
            f"; {protocol.seeds} seeds cannot name a winner, {fewest} can" if protocol.seeds < fewest else ""
        )
        begin(f"race: {runs} runs{kept}; one by one they take about {total}{f'; {cut}' if cut else ''}{few}")


__all__ = ["Contestant", "Task", "race"]
