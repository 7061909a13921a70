"""The noun of a search: what was tried, what was best over fresh seeds, what mattered, what went wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from downslope.core import edits, names
from downslope.core.edits import Edit, SetArgument, SetObjective
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import Dimension, applied
from downslope.core.stated import reference
from downslope.tuning.compared import compared, ranked
from downslope.tuning.confirmed import Confirmed, foremost, winner
from downslope.tuning.edges import Edge, edges, widened
from downslope.tuning.failures import Failure, diverged, failures
from downslope.tuning.finer import finer
from downslope.tuning.importance import Importance, importances
from downslope.tuning.plan import Plan
from downslope.tuning.schedule import Schedule, stairs
from downslope.tuning.told import best, document, elsewhere, in_short, table, told
from downslope.tuning.trained import Curve
from downslope.tuning.trial import Trial


@dataclass(frozen=True, repr=False)
class Best:
    """The best configuration: ``ds.fit(*search.best)`` trains it.

    Attributes:
        problem: With its factory arguments and settings of the objective.
        recipe: With its keys; the seed is that of the recipe which was given.
        values: Key to value.
        number: Of its trial.
        value: What the search saw of it.
        fresh: What fresh seeds gave; empty where none were trained.
        seeds: These seeds.
        interval: Of the mean over fresh seeds, 95 %; NaN where they are fewer than two.
        measure: What the values are, in words.
    """

    problem: Problem
    recipe: Recipe
    values: Mapping[str, Any]
    number: int
    value: float
    fresh: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    interval: tuple[float, float] = (math.nan, math.nan)
    measure: str = "value"

    def __str__(self) -> str:
        return in_short(self)

    def __repr__(self) -> str:
        return f"Best({self})"

    def __iter__(self) -> Iterator[Any]:
        return iter((self.problem, self.recipe))

    @property
    def mean(self) -> float:
        """Over the fresh seeds; what the search saw where there are none."""
        return math.fsum(self.fresh) / len(self.fresh) if self.fresh else self.value


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What `ds.tune` found.

    Attributes:
        plan: What was searched, and how.
        trials: Every trial, by number.
        confirmed: The best few over fresh seeds, in the order in which the search saw them.
        curves: Number of a trial to the steps and measures of its first seed.
        seconds: That were spent, over all sessions.
        steps: Optimizer steps that were spent.
        interrupted: Whether Ctrl-C ended it.
        stopped: Why it ended before its budget; None where it did not.
        widenings: What was widened on the way, in words.
        folder: Where it is kept; None of one in memory.
        journal: What Optuna's dashboard opens; None of one in memory.
    """

    plan: Plan
    trials: tuple[Trial, ...]
    confirmed: tuple[Confirmed, ...] = ()
    curves: Mapping[int, Curve] = field(default_factory=dict[int, Curve], repr=False)
    seconds: float = 0.0
    steps: int = 0
    interrupted: bool = False
    stopped: str | None = None
    widenings: tuple[str, ...] = ()
    folder: Path | None = None
    journal: str | None = None

    @property
    def problem(self) -> Problem:
        """The problem as it was given."""
        return self.plan.problem

    @property
    def recipe(self) -> Recipe:
        """The best recipe.

        Raises:
            InputError: no trial came to an end.
        """
        return self.best.recipe

    @property
    def space(self) -> dict[str, Dimension]:
        """What was searched, widened ranges too."""
        return self.plan.space

    @property
    def direction(self) -> Literal["min", "max"]:
        """Which way values are better."""
        return self.plan.direction

    @property
    def measure(self) -> str:
        """What the values are, in words."""
        return self.plan.measure

    @cached_property
    def done(self) -> tuple[Trial, ...]:
        """The trials with a value, the best first."""
        return tuple(foremost(self.trials, self.direction, len(self.trials)))

    @property
    def found(self) -> bool:
        """Whether any trial came to an end with a value."""
        return bool(self.done)

    @cached_property
    def best(self) -> Best:
        """The best over fresh seeds; of a search without confirmation, what it saw as the best.

        Raises:
            InputError: no trial came to an end; the message says why.
        """
        if not self.done:
            raise InputError(f"no best: {self.nothing}")
        sure = winner(self.confirmed, self.direction)
        if sure is None:
            first = self.done[0]
            problem, recipe, values = self._made(first.number, first.values)
            return Best(problem, recipe, values, first.number, first.value or 0.0, measure=self.measure)
        problem, recipe, values = self._made(sure.number, sure.values)
        return Best(
            problem, recipe, values, sure.number, sure.seen, sure.fresh, sure.seeds, sure.interval,
            self.measure,
        )  # fmt: skip

    def _made(self, number: int, values: Mapping[str, Any]) -> tuple[Problem, Recipe, dict[str, Any]]:
        """What a trial was trained with; of a schedule the beginning, or all where a recipe holds it."""
        schedule = self._schedule(number)
        values = values if schedule is None else schedule.at(0)
        problem, recipe = applied(self.problem, self.plan.recipe, values)
        whole = None if schedule is None else schedule.along(recipe)
        return problem, whole or recipe, dict(values)

    def _schedule(self, number: int) -> Schedule | None:
        rows = [row for each in self.trials if each.number == number for row in stairs(each)]
        return Schedule.of_table(rows) if rows else None

    @cached_property
    def schedule(self) -> Schedule | None:
        """The hyper-parameters in time that made the best, of population-based training; None elsewhere.

        The best recipe trains along it where only the rate changes; `downslope.tuning.replay.replay` always.
        """
        return self._schedule(self.best.number) if self.done else None

    @property
    def nothing(self) -> str:
        """Why there is no best."""
        if self.stopped:
            return self.stopped
        if failed := self.failures:
            return f"no trial came to an end; {failed[0]}"
        if gone := diverged(self.trials):
            return f"all {len(gone)} trials diverged; search smaller learning rates"
        if others := elsewhere(self.trials):
            whole = self.plan.pruner in ("halving", "pbt")
            why = f": {self.plan.pruner} begins all of them together, in one process" if whole else ""
            return f"nothing is left to begin here, {others}{why}"
        when = "before it was interrupted" if self.interrupted else "within the budget"
        return f"no trial came to an end {when}"

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """The keys by their importance, and whether they mattered; empty with fewer than ten trials."""
        if self.plan.pruner == "pbt":  # the values that members began with say little of those that made them
            return ()
        return importances(self._compared[0], self.space, self.direction, seed=self.plan.seed)

    @cached_property
    def _compared(self) -> tuple[list[Trial], int | None]:
        return compared(self.trials, self.curves, self.direction, seeds=self.plan.seeds)

    @property
    def compared_at(self) -> int | None:
        """The step whose values `importances` compares, where trials were pruned; None: values at the end."""
        return self._compared[1]

    @cached_property
    def early(self) -> tuple[Trial, ...]:
        """The trials that were ended on their way with a value, the furthest first, then the best."""
        return tuple(each for each in ranked(self.trials, self.direction) if each.state == "pruned")

    @property
    def importance(self) -> dict[str, float]:
        """Key to its share of the importance; those that mattered first, by their share."""
        return {each.key: each.share for each in self.importances}

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Where the best lie at an end of the space, with the wider range."""
        if self.plan.pruner == "pbt":
            return ()
        return edges(self.trials, self.space, self.direction, self.problem, self.plan.recipe)

    @property
    def wider(self) -> dict[str, Dimension]:
        """The space with every range widened at which the best lie; for the next search."""
        return widened(self.space, self.edges)

    @cached_property
    def finer(self) -> dict[str, Dimension]:
        """The space of the next search: finer where it mattered, wider at an edge, without the rest.

        Empty where no trial came to an end. ``ds.tune(*search.best, search.finer)`` searches it.
        """
        if not self.found:
            return {}
        return finer(self.trials, self.space, self.direction, self.importances, self.edges, self.best.values)

    @property
    def further(self) -> bool:
        """Whether the trials tell enough for a next search, and `finer` is another space than this one's."""
        return bool(self.importances and self.finer) and self.finer != self.space

    @cached_property
    def failures(self) -> tuple[Failure, ...]:
        """The trials that failed, by cause, the commonest first."""
        return failures(self.trials)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What of the best configuration belongs to the problem."""
        found: list[Edit] = [
            SetArgument(key.removeprefix("model."), value)
            for key, value in self.best.values.items()
            if key.startswith("model.")
        ]
        if any(key == "objective" or key.startswith("objective.") for key in self.best.values):
            found.append(SetObjective(reference(self.best.problem.objective)))
        return tuple(found)

    def save(self, path: str | Path, earlier: Sequence[Edit] = ()) -> Path:
        """Write the best recipe, and what of the problem belongs to it, to a file that ``--recipe`` reads.

        Args:
            path: The file.
            earlier: Edits that the problem had before, which belong into the file too.

        Raises:
            RecipeError: code that no file can hold, or a path that cannot be written.
            InputError: no trial came to an end.
        """
        notes = [f"{label}: {text}" for label, text in best(self)]
        notes += [] if self.folder is None else [f"search: {self.folder.absolute().name}"]
        own = self.edits
        before = [each for each in earlier if not any(_replaces(one, each) for one in own)]
        return edits.save(path, self.best.recipe, [*before, *own], notes)

    def table(self, count: int = 10) -> str:
        """The `count` best trials as text, the best first."""
        return table(self.done[:count], self.space, self.measure)

    def plot(self, kind: str = "importance") -> Any:
        """A figure of the search.

        Args:
            kind: "parallel" (coordinates), "curves", "importance", "slices", "history".
        """
        return names.load("downslope.reporting.searching:plot")(self, kind)

    def told(self) -> list[tuple[str, str]]:
        """What there is to say, as labels and texts."""
        return told(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file or a machine."""
        return document(self)

    def __str__(self) -> str:
        return "\n".join(f"{label:<9} {text}" for label, text in self.told())

    def __repr__(self) -> str:
        best = f"best {self.measure} {self.best.mean:.4g}" if self.found else "nothing found"
        return f"Search({len(self.trials)} trials: {best})"


def _replaces(own: Edit, earlier: Edit) -> bool:
    """Whether an edit leaves nothing of an earlier one: the same argument, the same objective."""
    if isinstance(own, SetArgument) and isinstance(earlier, SetArgument):
        return own.name == earlier.name
    return isinstance(own, SetObjective) and isinstance(earlier, SetObjective)
