"""The race: which of several optimizers or recipes is better, after equal tuning, on equal seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.names import did_you_mean
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.racing.contestants import Contestant, contestants_of
from downslope.racing.course import Course, Task, task_of
from downslope.racing.entry import Entry
from downslope.racing.ledger import Ledger
from downslope.racing.outcome import Outcome
from downslope.racing.protocol import By, Protocol, described
from downslope.racing.result import Race
from downslope.racing.times import FRACTION
from downslope.training.population.ray_address import check_ray
from downslope.training.price import total_steps
from downslope.training.recorder import new_folder
from downslope.tuning.edges import edges
from downslope.tuning.trial import Trial

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
    alpha: float = 0.05,
    seconds: float | None = None,
    seed: int = 0,
    folder: str | Path | Literal[False] | None = False,
    progress: bool = True,
    tell: Callable[[Race], None] | None = None,
    begin: Callable[[str], None] | None = None,
    command: Sequence[str] | None = None,
    **options: Any,
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
            classes as "torch.optim:NAdam".
        seeds: Fresh seeds of each contestant, in [2, inf). Below `Sequential.fewest` nothing can be decided.
        trials: Runs of the tuning of each contestant on each problem, in [0, inf); with 0 or 1 all race as
            given.
        recipe: What mere names share: batch size, length, schedule; or problem to recipe. The defaults of a
            recipe if left out.
        space: Key to dimension for all, or contestant to a space of its own.
        by: What decides: "level", or "steps" or "seconds" to the target.
        target: Level to reach, or problem to level. Left out, the problem's goal; without one, `fraction` of
            the way of `reference`.
        fraction: In (0, 1].
        reference: A contestant; left out, the one that was tuned best.
        early: Whether to stop once there is a winner.
        retune: Whether to tune anew for every seed.
        alpha: Chance of a winner where all are the same, in (0, 1).
        seconds: Longest time, in (0, inf): fewer trials for all, where they do not fit.
        seed: Of the tuning; the race has the seeds after it. In [0, 2**63).
        folder: Where outcomes are kept as they come, and found again by a race of the same protocol; None
            makes one, False keeps nothing.
        progress: Whether to show how far it is.
        tell: Is given the race so far after every stage.
        begin: Is given the price, before the first run.
        command: Words of the command line that asks for this race, kept in the folder.
        **options: For `fit_population`: ``workers``, ``ray``, ``way``.

    Returns:
        The race; ``.winner`` is None where it is undecided. Diverged seeds count as worse than all others.

    Raises:
        InputError: fewer than two contestants, doubled names, fewer than two seeds, or nobody who can be
            trained.
        UnknownNameError: an optimizer that is not known; the nearest is told.
        SpaceError: a key that nothing has.
        RunFolderError: the folder holds another race.
        ClusterError: a cluster that cannot be joined.
    """
    if options.get("ray") is not None:
        check_ray(options["ray"])
    problems = _named(problem)
    protocol = Protocol(
        seeds=seeds, trials=trials, seed=seed, by=by, alpha=alpha, early=early, retune=retune,
        fraction=fraction, reference=reference,
    )  # fmt: skip
    shared = _shared(recipe, problems)
    racers = {name: contestants_of(contestants, shared[name]) for name in problems}
    known = [each.name for each in next(iter(racers.values()))]
    if reference is not None and reference not in known:
        raise InputError(f"reference={reference!r} is no contestant{did_you_mean(reference, known)}")
    tasks = [task_of(name, each, racers[name], _target(target, name)) for name, each in problems.items()]
    if trials > 1:
        for task in tasks:
            for each in task.contestants:
                each.space(task.problem, space)
    where = new_folder("race") if folder is None else None if folder is False else Path(folder)
    ledger = Ledger(where, described(protocol, problems, racers, space, target))
    course = Course(
        tasks, protocol, ledger, space=space, progress=progress, tell=tell, options=options,
        until=None if seconds is None else time.monotonic() + _positive(seconds),
    )  # fmt: skip
    if command is not None:
        ledger.fact("command", list(command))
    try:
        _prepare(course, seconds, begin)
    except KeyboardInterrupt:
        course.status = "interrupted"
        return _noted(course.so_far(), course)
    return _noted(course.go(), course)


def _prepare(course: Course, seconds: float | None, begin: Callable[[str], None] | None) -> None:
    """Time a step of everybody, say what it will cost, and cut the trials to what fits."""
    protocol = course.protocol
    names = [one.name for one in course.tasks[0].contestants]
    each = sum(course.price(task) for task in course.tasks)
    able = [one for one in names if all((task.name, one) not in course.out for task in course.tasks)]
    if not able:
        causes = sorted(set(course.out.values()))
        raise InputError(f"no contestant can be trained: {causes[0]}")
    rounds = protocol.seeds if protocol.retune else 1
    trials = course.ledger.facts.get("trials", protocol.trials)
    if seconds is not None and "trials" not in course.ledger.facts and each:
        room = (SHARE * seconds / each - protocol.seeds) / rounds
        trials = max(0, min(trials, math.floor(room)))
        if trials < protocol.trials:
            course.notes.append(
                f"{trials} trials each instead of {protocol.trials}: more do not fit into {seconds:g} s"
            )
    course.trials = trials
    course.ledger.fact("trials", trials)
    runs = len(course.tasks) * len(able) * (trials * rounds + protocol.seeds)
    if begin is not None:
        kept = f", {course.ledger.found} of them there already" if course.ledger.found else ""
        begin(f"race: {runs} runs{kept}, about {each * (trials * rounds + protocol.seeds):.3g} s one by one")


def _noted(found: Race, course: Course) -> Race:
    """What has to be known beside the figures."""
    notes = found.notes
    for task in course.tasks:
        if task.measure.column == "train_loss":
            notes.append(
                f"{task.name} has no validation data: judged by the training loss, blind to new data"
            )
        lengths = {total_steps(task.problem, each.recipe) for each in task.contestants}
        if len(lengths) > 1:
            notes.append(
                f"{task.name}: the contestants take {' or '.join(map(str, sorted(lengths, key=str)))} steps"
            )
    if course.trials > 1:
        notes += _edges(course)
    for each in found.entries:
        if each.error:
            notes.append(f"{each.contestant} is out on {each.problem}: {each.error}")
        elif each.repeated:
            notes.append(
                f"the seeds change nothing of {each.contestant} on {each.problem}: they are one run; where "
                "that holds for both of a pair, one difference"
            )
        elif each.lost:
            notes.append(
                f"{each.contestant} was lost on {each.lost} of {len(each.raced)} seeds of {each.problem}"
            )
        stuck = sum(not one.lost and len(one.levels) > 1 and not better(each, one) for one in each.raced)
        if stuck:
            notes.append(
                f"{each.contestant} never got better than its start on {stuck} of {len(each.raced)} seeds of "
                f"{each.problem}"
            )
        bad = sum(one.lost for one in each.tuning)
        if bad and not each.error:
            notes.append(
                f"{each.contestant}: {bad} of {len(each.tuning)} trials on {each.problem} diverged or failed"
            )
    if course.trials < 2:
        notes.append("untuned: recipes were compared as given, which says little of the optimizers")
    elif not course.protocol.retune:
        notes.append("tuned once: what is compared are these recipes; retune=True compares the optimizers")
    return found


def _edges(course: Course) -> list[str]:
    """Where the best trials of a contestant lie at the end of its space: it may be undertuned."""
    made: list[str] = []
    for task in course.tasks:
        for one in task.contestants:
            own = course.tuning(task, one.name)
            if not own or (task.name, one.name) in course.out:
                continue
            space = one.space(task.problem, course.space)
            trials = [
                Trial(each.number, each.values, "failed" if each.lost else "done", each.level)
                for each in own
                if each.number
            ]
            found = edges(trials, space, "max" if task.measure.up else "min", task.problem, one.recipe)
            made += [f"{one.name} on {task.name}: {each}" for each in found]
    return made


def better(entry: Entry, one: Outcome) -> bool:
    """Whether a run ended better than its first evaluation."""
    return entry.measure.cost(one.level) < entry.measure.cost(one.levels[0])


def _named(given: Any) -> dict[str, Problem]:
    """The problems by name.

    Raises:
        InputError: none, no problem among them, or two of one name.
    """
    if isinstance(given, Problem):
        pairs: list[tuple[str, Any]] = [(given.name or "problem", given)]
    elif isinstance(given, Mapping):
        pairs = [(str(name), each) for name, each in cast("Mapping[Any, Any]", given).items()]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        several = cast("Sequence[Any]", given)
        pairs = [
            (str(getattr(each, "name", "") or f"problem {i + 1}"), each) for i, each in enumerate(several)
        ]
    else:
        pairs = [("", given)]
    if not pairs:
        raise InputError("no problem: give one, or several in a list or by name")
    for _, each in pairs:
        check_asked(each, None, or_a=", several of them in a list, or by name in a dict")
    found: dict[str, Problem] = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("two problems have one name: give a dict of name to problem")
    return found


def _shared(given: Any, problems: Mapping[str, Problem]) -> dict[str, Recipe | None]:
    """What mere names share on each problem."""
    each = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else dict.fromkeys(problems, given)
    for name, problem in problems.items():
        check_asked(problem, each.get(name))
    return {name: each.get(name) for name in problems}


def _target(given: Any, name: str) -> float | None:
    found: Any = cast("Mapping[str, Any]", given).get(name) if isinstance(given, Mapping) else given
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise InputError(
            f"target={found!r}: must be a finite number, the level to reach, or problem to number"
        )
    return float(found)


def _positive(seconds: Any) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise InputError(f"seconds={seconds!r}: must lie in (0, inf); leave it out for no limit")
    return float(seconds)


__all__ = ["Contestant", "Task", "race"]
