"""Configurations trained as one population, and what became of each."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from downslope.core.errors import DownslopeError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.space import applied
from downslope.training.evaluate import Evaluation
from downslope.training.facts import one_line
from downslope.training.population import fit_population

State = Literal["done", "diverged", "failed", "unfinished"]
Curve = tuple[tuple[int, ...], tuple[float, ...]]
"""Steps, and the measure there."""
Heard = Callable[[int, int, float], bool]
"""``(configuration, step, measure)``; True ends it there."""


@dataclass(frozen=True)
class Outcome:
    """What became of one configuration.

    Attributes:
        state: "unfinished" where time was up or somebody interrupted.
        values: The measure of each seed; of a run that diverged the worst there is.
        cause: Why it failed, or did not end.
        steps: Optimizer steps of all its runs.
        curve: Of its first seed.
        runs: Of those that ended, in the order of the seeds.
        pruned: Whether it was ended on its way by who heard of it.
        lost: Whether those who trained it went away, all of them.
    """

    state: State
    values: tuple[float, ...] = ()
    cause: str | None = None
    steps: int = 0
    curve: Curve = ((), ())
    runs: tuple[Run, ...] = ()
    pruned: bool = False
    lost: bool = False

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan


def train(
    problem: Problem,
    recipe: Recipe,
    configurations: Sequence[Mapping[str, Any]],
    *,
    seeds: Sequence[int],
    until: float | None = None,
    heard: Heard | None = None,
    folder: Path | None = None,
    label: str = "tune",
    partial: bool = False,
    ended: Callable[[int, Outcome], None] | None = None,
    **how: Any,
) -> list[Outcome]:
    """Train every configuration with every seed, all of them as one population.

    A configuration that cannot be applied or trained is a failure with its cause, and ends nothing else.

    Args:
        problem: What is learnt.
        recipe: What the values of a configuration change.
        configurations: Key to value.
        seeds: Of each.
        until: `time.monotonic` by which it ends.
        heard: Told of every evaluation on the way.
        folder: Where the runs are kept; None keeps them in memory.
        label: For folders.
        partial: Whether the seeds that ended count where others did not.
        ended: ``(configuration, outcome)``, called as soon as all its seeds have come to their end.
        **how: More for `fit_population`: ``way``, ``workers``.
    """
    causes: dict[int, str] = {}
    members: list[tuple[int, Problem, Recipe]] = []
    for i, values in enumerate(configurations):
        try:
            own, how_to = applied(problem, recipe, values)
        except DownslopeError as error:
            causes[i] = one_line(error)
            continue
        members += [(i, own, how_to.edit(seed=seed)) for seed in seeds]
    of = [i for i, _, _ in members]
    if ended is not None:
        how["on_end"] = _by_configuration(problem, of, len(seeds), ended)
    if heard is not None:
        told = heard

        def on_evaluation(member: int, step: int, found: Evaluation) -> bool:
            return told(of[member], step, found.measure)

        how["on_evaluation"] = on_evaluation
    runs = (
        fit_population(
            [each for _, each, _ in members],
            [each for _, _, each in members],
            folder=False if folder is None else folder,
            progress=False,
            label=label,
            strict=False,
            until=until,
            **how,
        )
        if members and (until is None or until > time.monotonic())
        else []
    )
    found: dict[int, list[Run]] = {}
    for (i, _, _), run in zip(_met(members, runs), runs, strict=True):
        found.setdefault(i, []).append(run)
    return [
        Outcome("failed", cause=causes[i])
        if i in causes
        else _outcome(problem, found.get(i, ()), 1 if partial else len(seeds), partial)
        for i in range(len(configurations))
    ]


def _by_configuration(
    problem: Problem, of: Sequence[int], seeds: int, ended: Callable[[int, Outcome], None]
) -> Callable[[int, Run], None]:
    """What hears of ends of members, and tells of the configuration whose last seed it was."""
    found: dict[int, dict[int, Run]] = {}

    def on_end(member: int, run: Run) -> None:
        runs = found.setdefault(of[member], {})
        runs[member] = run
        if len(runs) == seeds:
            ended(of[member], _outcome(problem, [runs[each] for each in sorted(runs)], seeds, False))

    return on_end


def measure_of(problem: Problem, run: Run) -> float:
    """The metric of a run on validation data: its loss without a metric, on training data without any."""
    where = "train" if problem.valid_source is None else "valid"
    found = run.summary.get(f"{where}_{'loss' if problem.metric is None else 'metric'}")
    return math.nan if found is None else float(found)


def worst(problem: Problem) -> float:
    """As bad as it gets."""
    return -math.inf if problem.direction == "max" else math.inf


def curve_of(problem: Problem, run: Run) -> Curve:
    """The measure over the steps of a run, as far as it was evaluated on the way."""
    where = "train_epoch_loss" if problem.valid_source is None else "valid_loss"
    name = "valid_metric" if problem.valid_source is not None and problem.metric is not None else where
    if name not in run.history:
        return (), ()
    series = run.history.series(name)
    return tuple(int(step) for step in series.steps), tuple(float(value) for value in series.values)


def _outcome(problem: Problem, runs: Sequence[Run], least: int, whole: bool) -> Outcome:
    """What the runs of one configuration come to, if at least so many came to their end.

    With `whole` one that was ended on its way by who heard of it has not.
    """
    steps = sum(int(each.summary.get("steps") or 0) for each in runs)
    failed = [str(each.facts.get("error") or "no cause") for each in runs if each.status == "failed"]
    if failed:
        return Outcome("failed", cause=Counter(failed).most_common(1)[0][0], steps=steps, runs=tuple(runs))
    short = ("interrupted", "stopped") if whole else ("interrupted",)
    ended = [each for each in runs if each.status not in short]
    if len(ended) < least:
        lost = next((str(each.facts["lost"]) for each in runs if "lost" in each.facts), None)
        return Outcome("unfinished", cause=lost or "it did not come to its end", steps=steps, lost=bool(lost))
    values = [measure_of(problem, each) for each in ended]
    gone = [run.status == "diverged" or not math.isfinite(v) for run, v in zip(ended, values, strict=True)]
    told = tuple(worst(problem) if bad else value for bad, value in zip(gone, values, strict=True))
    curve, pruned = curve_of(problem, ended[0]), any(each.status == "stopped" for each in ended)
    if not any(gone):
        return Outcome("done", told, None, steps, curve, tuple(ended), pruned)
    at = ended[gone.index(True)]
    what = "training diverged" if at.status == "diverged" else "its measure is not finite"
    return Outcome("diverged", told, f"{what} at step {at.summary.get('steps')}", steps, curve, tuple(ended))


def _met(
    members: Sequence[tuple[int, Problem, Recipe]], runs: Sequence[Run]
) -> list[tuple[int, Problem, Recipe]]:
    """The member of each run; where some were left out, by their recipes in order."""
    if len(runs) >= len(members):
        return list(members)
    met: list[tuple[int, Problem, Recipe]] = []
    at = 0
    for run in runs:
        same = next((j for j in range(at, len(members)) if members[j][2] == run.recipe), at)
        met.append(members[same])
        at = same + 1
    return met
