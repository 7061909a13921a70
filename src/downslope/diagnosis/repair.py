"""The verb `repair`: remedies beside the untouched control, from the same seeds; what wins is kept."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from downslope.core import edits as core_edits
from downslope.core.asked import check_asked
from downslope.core.budget import Budget
from downslope.core.edits import Edit
from downslope.core.errors import InputError
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.diagnosis.candidates import parts
from downslope.diagnosis.changes import changes, holds_code, in_model
from downslope.diagnosis.diagnose import diagnose
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.mending import Mending
from downslope.diagnosis.trial import Trial
from downslope.training.optimizer import settled
from downslope.training.ways import exact

_log = logging.getLogger("downslope")


@dataclass(kw_only=True, eq=False)
class Repair:
    """What was tried, what won, and the edited problem and recipe.

    Attributes:
        problem: With the kept edit applied; as given where nothing won.
        recipe: The same.
        diagnosis: What the remedies come from.
        looks: Diagnoses of what was repaired so far, where that was still far from what is reachable.
        trials: Every remedy that was tried, in order, and what was tuned about it from several seeds.
        screened: What was tried besides from a single seed, and did no better.
        kept: The edit that won; None where none did or nothing was to fix.
        before: Mean score of the untouched control; None where nothing was tried.
        after: Mean score of what is kept; None where nothing won.
        floor: Where any score is worse than a constant guess: that of one, as which it counts in a gain.
        measure: What is scored: "valid accuracy", "valid loss", "train loss".
        advice: Remedies that no trial can prove.
        seeds: Seeds of the trials.
        seconds: What the repair took, the diagnosis included.
        notes: Decisions that a reader must know.
        interrupted: Whether Ctrl-C ended it; what was proved by then stands.
    """

    problem: Problem
    recipe: Recipe
    diagnosis: Diagnosis
    looks: list[Diagnosis] = field(default_factory=list[Diagnosis])
    trials: list[Trial] = field(default_factory=list[Trial])
    screened: list[Trial] = field(default_factory=list[Trial])
    kept: Edit | None = None
    before: float | None = None
    after: float | None = None
    floor: float | None = None
    measure: str = ""
    advice: list[Edit] = field(default_factory=list[Edit])
    seeds: tuple[int, ...] = ()
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list[str])
    interrupted: bool = False

    def stopped(self) -> None:
        """Note that Ctrl-C ended it."""
        self.interrupted = True
        kept = (
            "what was proved by then is kept"
            if self.kept is not None
            else "problem and recipe stay as they are"
        )
        self.notes.append(f"Interrupted: what was not tried by then is not judged; {kept}.")

    @property
    def counted(self) -> str:
        """How scores count that are worse than a constant guess; "" where there are none."""
        if self.floor is None or not self.trials:
            return ""
        return f"What is worse than a constant guess ({self.floor:.4g}) counts as one in every gain."

    @property
    def idle(self) -> bool:
        """Whether there was nothing to fix: the run is healthy, and short of no goal."""
        return self.diagnosis.healthy and not _short_of_goal(self.diagnosis)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The kept edits one by one; none where nothing won."""
        return () if self.kept is None else parts(self.kept)

    @property
    def diff(self) -> str:
        """What changes, a line each; for a module also the change to make in the code."""
        lines: list[str] = []
        for edit in self.edits:
            lines.append(f"{edit.entity:>12}  {edit}")
            lines += [f"{'in code':>12}  {line}" for line in in_model(self._applied(edit))]
        return "\n".join(lines)

    @property
    def in_code(self) -> str:
        """The kept edits of the problem as a Python module to read and to copy; "" where there are none."""
        return self.as_module("fixed_changes")

    def as_module(self, name: str) -> str:
        """`in_code` as the module `name`, by which its docstring says how a task file imports it."""
        ours = self.edits if self.recipe.coded else [each for each in self.edits if each.kind != "set-recipe"]
        return changes([self._applied(each) for each in ours], name) if ours else ""

    def _applied(self, edit: Edit) -> Edit:
        """The edit as the problem has it, which knows what it changed."""
        return next((each for each in self.problem.edits if each == edit), edit)

    @property
    def by_hand(self) -> tuple[Edit, ...]:
        """Kept edits that hold code: no recipe file has them, `in_code` says what to write."""
        return tuple(each for each in self.edits if holds_code(each))

    def save(self, path: str | Path, earlier: Sequence[Edit] = ()) -> Path:
        """Write recipe and edits to a TOML file that ``--recipe`` reads.

        An edit that holds code which no file can hold is left out; the log, and a comment in the file, say
        what to write in code in its place.

        Args:
            path: The file.
            earlier: Edits that the problem had before, which belong into the file too.

        Raises:
            RecipeError: the recipe's optimizer is code that no file can hold.
        """
        saved = self.write(path, earlier)
        for each in self.by_hand:
            _log.warning("%s", _in_code(each))
        return saved

    def write(self, path: str | Path, earlier: Sequence[Edit] = ()) -> Path:
        """What `save` does, without a word in the log: for a copy of the file, such as a report holds."""
        code = self.by_hand
        edits = [each for each in self.edits if each.kind != "set-recipe" and each not in code]
        return core_edits.save(path, self.recipe, [*earlier, *edits], [_in_code(each) for each in code])

    def to_dict(self) -> dict[str, Any]:
        """Plain values only: ready for JSON."""
        return plain(
            {
                "kept": None if self.kept is None else self.kept.to_dict() | {"text": str(self.kept)},
                "before": self.before, "after": self.after, "floor": self.floor,
                "measure": self.measure, "diff": self.diff,
                "trials": [each.to_dict() for each in self.trials],
                "screened": [each.to_dict() for each in self.screened],
                "advice": [str(each) for each in self.advice],
                "seeds": self.seeds, "seconds": self.seconds, "notes": self.notes,
                "diagnosis": self.diagnosis.to_dict(), "looks": [each.to_dict() for each in self.looks],
            }
        )  # fmt: skip

    def to_json(self, indent: int | None = 2) -> str:
        """The repair as JSON; a number that is not finite is null."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        if self.idle and not self.interrupted:
            return "Healthy, nothing to fix."
        lines = [str(each) for each in self.trials]
        if self.kept is None and not self.interrupted:
            tried = "; ".join(str(each.edit) for each in self.trials) or "no remedy could be tried"
            lines.append(f"Nothing helped for certain. Tried: {tried}.")
        lines += [self.counted] if self.counted else []
        lines += [f"unproved: {each}" for each in self.advice]
        return "\n".join([*lines, *self.notes])


def _short_of_goal(found: Diagnosis) -> bool:
    """Whether the best metric of the run is known and stays short of the level that is good enough."""
    problem = found.run.problem
    if problem is None or problem.goal is None or problem.metric is None or found.interrupted:
        return False
    ending: Mapping[str, Any] = found.run.facts.get("ending") or {}
    part = "train_metric" if problem.valid_source is None else "best_valid_metric"
    reached = [each for each in (ending.get(part), found.run.summary.get("valid_metric")) if each is not None]
    return bool(reached) and not any(problem.reached(each) for each in reached)


def _in_code(edit: Edit) -> str:
    """One line about an edit that no file holds: what it is, and what to write instead."""
    way = getattr(getattr(edit, "objective", None), "in_code", None)
    field = "it in the code" if way is None else f"Problem(objective={way})"
    return f"not in the file, which holds names and no code: {edit}; write {field} instead"


def repair(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    diagnosis: Diagnosis | None = None,
    seeds: int = 3,
    budget: str | float = "2m",
    progress: bool = True,
    folder: str | Path | Literal[False] | None = None,
) -> Repair:
    """Diagnose, try the remedies beside the untouched control, and keep what wins for certain.

    Remedies and control train from the same seeds on the same batches. A remedy is kept where the paired
    differences of the score over the seeds have a 95 % interval above zero (``mean +- t s / sqrt(n)``,
    Student 1908: `downslope.diagnosis.paired`); one that is surely behind is given no more seeds (successive
    elimination: `downslope.diagnosis.elimination`), one that looks better but is not certain up to three
    times as many. Where what is repaired is still far from what is reachable it is diagnosed again, and the
    time that is left goes to learning rate, method and scales while that wins something
    (`downslope.diagnosis.mending`).

    The score is the metric on validation data, without a metric the loss there, without validation data
    the same on training data. Of remedies that do equally well the smallest change is kept; beside one that
    comes close to what is reachable a larger one has to be ahead for certain. The seed by which a change was
    chosen among many proves nothing of it. What the output means, and the labels, are never changed. A
    healthy run is left as it is, unless it stays short of the problem's goal: then the usual moves are tried.

    Args:
        problem: The problem.
        recipe: Left out, Adam with its defaults.
        diagnosis: Of this problem and recipe, if there is one already.
        seeds: Seeds of each remedy, at least 2; the first is the recipe's own.
        budget: "2m", "90s" or seconds, for diagnosis and trials together: trials that do not fit are cut, or
            left out and named; "500 steps" of each run: then time does not count, and the repair is the same
            on every machine.
        progress: Whether to say on standard error what is going on.
        folder: Of the diagnosis's run; None makes one, False keeps it in memory.

    Returns:
        The repair; its problem and recipe are as given where nothing won. Ctrl-C ends it with what was proved
        by then (`Repair.interrupted`).

    Raises:
        InputError: what `diagnose` raises, or fewer than 2 seeds.
    """
    check_asked(problem, recipe)
    count: Any = seeds
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise InputError(
            f"seeds={seeds!r}: must be an integer of at least 2, a single pair has no interval; 3 is usual"
        )
    spend = Budget(budget)
    recipe = settled(problem, recipe or Recipe())
    found = diagnosis or diagnose(problem, recipe, budget=0.5 * spend.seconds if math.isfinite(spend.seconds)
                                  else budget, progress=progress, folder=folder)  # fmt: skip
    result = Repair(problem=problem, recipe=recipe, diagnosis=found)
    if found.interrupted and diagnosis is None:
        result.stopped()
    elif not result.idle:
        try:
            with exact():
                Mending(result, seeds, spend, progress).go()
        except KeyboardInterrupt:  # before the first trial, or after the last
            result.stopped()
    result.seconds = spend.spent + (found.seconds if diagnosis is not None else 0.0)
    return result
