"""The verb `repair`: remedies beside the untouched control, from the same seeds; what wins is kept."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from downslope.core import edits as core_edits
from downslope.core.asked import check_asked
from downslope.core.edits import Combined, Edit, ReplaceModule
from downslope.core.errors import DownslopeError, InputError
from downslope.core.plain import plain
from downslope.core.problem import Problem, reference
from downslope.core.recipe import Recipe
from downslope.diagnosis.budget import Budget
from downslope.diagnosis.candidates import candidates, size, unique, with_rate
from downslope.diagnosis.diagnose import diagnose
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.paired import difference
from downslope.diagnosis.progress import progress as how_far
from downslope.diagnosis.progress import table
from downslope.diagnosis.trial import Trial, Verdict, mean
from downslope.diagnosis.trials import score
from downslope.training.facts import one_line
from downslope.training.facts.sample import scored
from downslope.training.optimizer import settled
from downslope.training.population import fit_population

EQUAL = 0.02
"""Share of the gain of the best remedy within which a smaller change is preferred. Convention."""

RETUNE_BELOW = 0.9
"""Share of the way under which the best remedy is tried again with other learning rates."""

_COLUMNS = {"train_loss": "loss", "train_metric": "metric"}


@dataclass(kw_only=True, eq=False)
class Repair:
    """What was tried, what won, and the edited problem and recipe.

    Attributes:
        problem: With the kept edit applied; as given where nothing won.
        recipe: The same.
        diagnosis: What the remedies come from.
        trials: Every remedy that was tried, in order.
        kept: The edit that won; None where none did or nothing was to fix.
        before: Mean score of the untouched control; None where nothing was tried.
        after: Mean score of what is kept; None where nothing won.
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
    trials: list[Trial] = field(default_factory=list[Trial])
    kept: Edit | None = None
    before: float | None = None
    after: float | None = None
    measure: str = ""
    advice: list[Edit] = field(default_factory=list[Edit])
    seeds: tuple[int, ...] = ()
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list[str])
    interrupted: bool = False

    def stopped(self) -> None:
        """Note that Ctrl-C ended it."""
        self.interrupted = True
        self.notes.append("Interrupted: what was not tried by then is not judged.")

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The kept edits one by one; none where nothing won."""
        if self.kept is None:
            return ()
        return self.kept.edits if isinstance(self.kept, Combined) else (self.kept,)

    @property
    def diff(self) -> str:
        """What changes, a line each; for a module also the change to make in the code."""
        lines: list[str] = []
        for edit in self.edits:
            lines.append(f"{edit.entity:>12}  {edit}")
            if isinstance(edit, ReplaceModule):
                made = f"{reference(edit.factory) or edit.factory}".replace(":", ".")
                given = ", ".join(f"{key}={value!r}" for key, value in edit.arguments.items())
                lines.append(f"{'in code':>12}  model.get_submodule({edit.name!r}) becomes {made}({given})")
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write recipe and edits to a TOML file that ``--recipe`` reads.

        Raises:
            RecipeError: code that no file can hold.
        """
        edits = [each for each in self.edits if each.kind != "set-recipe"]
        return core_edits.save(path, self.recipe, edits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only: ready for JSON."""
        return plain(
            {
                "kept": None if self.kept is None else self.kept.to_dict() | {"text": str(self.kept)},
                "before": self.before, "after": self.after, "measure": self.measure, "diff": self.diff,
                "trials": [each.to_dict() for each in self.trials],
                "advice": [str(each) for each in self.advice],
                "seeds": self.seeds, "seconds": self.seconds, "notes": self.notes,
                "diagnosis": self.diagnosis.to_dict(),
            }
        )  # fmt: skip

    def to_json(self, indent: int | None = 2) -> str:
        """The repair as JSON; a number that is not finite is null."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def __str__(self) -> str:
        if self.diagnosis.healthy:
            return "Healthy, nothing to fix."
        lines = [str(each) for each in self.trials]
        if self.kept is None:
            tried = "; ".join(str(each.edit) for each in self.trials) or "no remedy could be tried"
            lines.append(f"Nothing helped for certain. Tried: {tried}.")
        lines += [f"unproved: {each}" for each in self.advice]
        return "\n".join([*lines, *self.notes])


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

    A remedy is kept where the paired differences of the score over the seeds have a 95 % interval above
    zero. The score is the metric on validation data, without a metric the loss there, without validation data
    the same on training data. Of remedies that do equally well the smallest change is kept.

    Args:
        problem: The problem.
        recipe: Left out, Adam with its defaults.
        diagnosis: Of this problem and recipe, if there is one already.
        seeds: Seeds of each remedy, at least 2; the first is the recipe's own.
        budget: "2m", "90s" or seconds, for diagnosis and trials together.
        progress: Whether to say on standard error what is going on.
        folder: Of the diagnosis's run; None makes one, False keeps it in memory.

    Returns:
        The repair; its problem and recipe are as given where nothing won.

    Raises:
        InputError: what `diagnose` raises, or fewer than 2 seeds.
    """
    check_asked(problem, recipe)
    if seeds < 2:
        raise InputError(f"seeds={seeds}: must be at least 2, a single pair has no interval; 3 is usual")
    spend = Budget(budget)
    recipe = settled(problem, recipe or Recipe())
    found = diagnosis or diagnose(problem, recipe, budget=0.5 * spend.seconds if math.isfinite(spend.seconds)
                                  else budget, progress=progress, folder=folder)  # fmt: skip
    result = Repair(problem=problem, recipe=recipe, diagnosis=found)
    if found.run.status == "interrupted":
        result.stopped()
    elif not found.healthy:
        _Trials(result, seeds, spend, progress).go()
    result.seconds = spend.spent + (found.seconds if diagnosis is not None else 0.0)
    return result


class _Trials:
    """The proof on its way."""

    def __init__(self, result: Repair, seeds: int, budget: Budget, talk: bool) -> None:
        self.result, self.budget, self.talk = result, budget, talk
        self.problem, self.recipe = result.problem, result.recipe
        result.seeds = tuple(self.recipe.seed + index for index in range(seeds))
        self.held = scored(self.problem)
        # Overfitting shows in the last model's validation loss: the best epoch is kept anyway, and a metric
        # such as the accuracy hardly sees how sure the wrong answers are.
        self.last = result.diagnosis.root is not None and result.diagnosis.root.symptom == "high-variance"
        self.by = "valid_loss" if self.last else _measure(self.problem)
        result.measure = ("last " if self.last else "") + self.by.replace("_", " ")
        self.control: tuple[float, ...] = ()
        self.slowest = 0.0

    def go(self) -> None:
        """Control first, then one candidate after another, then the choice."""
        result = self.result
        edits, result.advice = candidates(result.diagnosis)
        if not edits:
            result.notes.append("No remedy can be applied without a change by hand.")
            return
        self._say(f"{len(edits)} remedies x {len(result.seeds)} seeds beside the unchanged recipe")
        try:
            self._prove(edits)
        except KeyboardInterrupt:
            result.stopped()
        self._choose()

    def _prove(self, edits: Sequence[Edit]) -> None:
        self.control, _ = self._scores(None)
        self.result.before = mean(self.control)
        for edit in edits:
            if not self._try(edit) or self._done():
                break
        self._repeat()
        self._retune()

    def _say(self, text: str) -> None:
        if self.talk:
            sys.stderr.write(f"repair    {text}\n")
            sys.stderr.flush()

    def _scores(self, edit: Edit | None, seeds: Sequence[int] = ()) -> tuple[tuple[float, ...], str]:
        """One score a seed, and the reason where there is none."""
        begun = self.budget.spent
        try:
            problem, recipe = (
                (self.problem, self.recipe) if edit is None else edit.apply(self.problem, self.recipe)
            )
            runs = fit_population(problem, recipe, seeds or self.result.seeds, progress=False)
        except DownslopeError as error:
            return (), one_line(error)
        except Exception as error:  # noqa: BLE001 (a remedy that the user's code does not take is no crash)
            return (), one_line(error)
        if runs[-1].status == "interrupted":  # a score of half a run is no score
            raise KeyboardInterrupt
        self.slowest = max(self.slowest, self.budget.spent - begun)
        comparable = problem.objective is self.problem.objective
        scores = [score(run, self.problem, self.held, comparable=comparable) for run in runs]
        return tuple(self._read(each) for each in scores), ""

    def _read(self, found: Mapping[str, Any]) -> float:
        """The score of one run; what is lost, or worse than a constant guess, counts as that guess."""
        key = _COLUMNS.get(self.by, self.by)
        if self.last and key in ("valid_metric", "valid_loss"):
            key = f"last_{key}"
        value, worst = cast("float | None", found.get(key)), self._worst()
        if value is None or not math.isfinite(value):
            return 0.0 if worst is None else worst
        return float(value) if worst is None or self._sign * (value - worst) > 0 else worst

    def _worst(self) -> float | None:
        """What stands for a lost run: the best constant prediction, else the first loss; None if unknown."""
        facts = self.result.diagnosis.run.facts
        constant: Mapping[str, Any] = facts.get("constant") or {}
        key = _COLUMNS.get(self.by, self.by)
        value: float | None = constant.get(key)
        if value is None and self.by.endswith("loss"):
            value = table(self.result.diagnosis.run, "start").get("loss")
        return float(value) if value is not None and math.isfinite(value) else None

    @property
    def _sign(self) -> float:
        problem = self.problem
        if self.by.endswith("metric"):
            return 1.0 if problem.direction == "max" else -1.0
        return 1.0 if problem.maximize else -1.0

    def _try(self, edit: Edit) -> bool:
        """Prove one remedy; False where no time is left."""
        if self.budget.spent + 1.2 * self.slowest > self.budget.seconds and self.result.trials:
            self.result.notes.append(f"No time was left for: {edit}.")
            return False
        self._say(f"trial of {edit}")
        after, error = self._scores(edit)
        if error:
            self.result.trials.append(Trial(edit=edit, verdict="failed", reason=error))
            return True
        gain = difference([self._sign * v for v in after], [self._sign * v for v in self.control])
        verdict: Verdict = "works, not kept" if gain.sure else "not confirmed"
        if gain.high < 0:
            verdict = "worse"
        self.result.trials.append(
            Trial(edit=edit, before=self.control, after=after, gain=gain, verdict=verdict)
        )
        return True

    def _repeat(self) -> None:
        """Where nothing is certain but something looked better: as many seeds again, of control and
        remedy.
        """
        result = self.result
        hopeful = [each for each in result.trials if each.after and each.gain.mean > 0]
        if self._best() is not None or not hopeful:
            return
        trial = max(hopeful, key=lambda each: each.gain.mean)
        more = tuple(result.seeds[-1] + 1 + index for index in range(len(result.seeds)))
        if self.budget.spent + 2.4 * self.slowest > self.budget.seconds:
            result.notes.append(f"No time was left for more seeds of: {trial.edit}.")
            return
        self._say(f"more seeds of {trial.edit}")
        control, _ = self._scores(None, more)
        after, error = self._scores(trial.edit, more)
        if error:
            return
        before, after = (*trial.before, *control), (*trial.after, *after)
        gain = difference([self._sign * v for v in after], [self._sign * v for v in before])
        verdict: Verdict = "works, not kept" if gain.sure else "not confirmed"
        result.trials[result.trials.index(trial)] = Trial(
            edit=trial.edit, before=before, after=after, gain=gain, verdict=verdict
        )

    def _recovered(self, trial: Trial) -> float:
        """Share of the way from the control to the best that anything reached."""
        facts = self.result.diagnosis.run.facts
        key = _COLUMNS.get(self.by, self.by)
        known = [
            self._sign * each[key] for each in facts.get("references") or () if each.get(key) is not None
        ]
        known += [self._sign * mean(each.after) for each in self.result.trials if each.after]
        base = self._sign * mean(self.control)
        way = max(known) - base
        return (self._sign * mean(trial.after) - base) / way if way > 0 else 1.0

    def _best(self) -> Trial | None:
        won = [each for each in self.result.trials if each.gain.sure]
        return max(won, key=lambda each: each.gain.mean, default=None)

    def _done(self) -> bool:
        """Whether a remedy is certain and as good as anything known: later ones could only tie."""
        best = self._best()
        known = bool(self.result.diagnosis.run.facts.get("references"))
        return best is not None and known and self._recovered(best) >= 0.98

    def _retune(self) -> None:
        """Where the best remedy leaves much to win, its learning rate is tried around what it leaves."""
        best = self._best()
        how = how_far(self.result.diagnosis.run)
        if best is None or self._recovered(best) >= RETUNE_BELOW or how.reachable is None:
            return
        more = [with_rate(best.edit, self.recipe, factor) for factor in (3.0, 10.0, 0.3)]
        for edit in unique(each for each in more if each is not None):
            if not self._try(edit):
                return

    def _choose(self) -> None:
        """The best certain remedy, or a smaller one that does as well."""
        best, result = self._best(), self.result
        if best is None:
            return
        near = [
            each
            for each in result.trials
            if each.gain.sure and each.gain.mean >= (1 - EQUAL) * best.gain.mean
        ]
        kept = min(near, key=lambda each: (size(each.edit), -each.gain.mean))
        index = result.trials.index(kept)
        result.trials[index] = _with(kept, "kept")
        result.kept, result.after = kept.edit, mean(kept.after)
        result.problem, result.recipe = kept.edit.apply(self.problem, self.recipe)


def _with(trial: Trial, verdict: Verdict) -> Trial:
    return Trial(edit=trial.edit, before=trial.before, after=trial.after, gain=trial.gain, verdict=verdict)


def _measure(problem: Problem) -> str:
    part = "train" if problem.valid_source is None else "valid"
    return f"{part}_{'loss' if problem.metric is None else 'metric'}"
