"""By what number a repair judges its runs, from where it counts, and when enough is reached."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from downslope.core.edits import SetObjective
from downslope.core.errors import DownslopeError
from downslope.core.fixed_sample import scored
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.progress import SHARES, bounded, table
from downslope.diagnosis.trials import score
from downslope.training.evaluate import evaluate
from downslope.training.facts import constant as guess

PERFECT = 0.97
"""Share of the way from the constant to a perfect metric beyond which nothing is left to win. Convention."""

UNSTEADY = ("mode-gap", "oscillation", "cliff", "noisy-gradient")
"""Roots of which the best epoch says nothing."""

LEAST = 0.02
"""Share of the way from the constant below which no gain is worth a change, however certain. Convention."""

_COLUMNS = {"train_loss": "loss", "train_metric": "metric"}


class Score(NamedTuple):
    """What a run reached."""

    counted: float
    """By which it is compared: what is worse than a constant guess, or lost, counts as one."""
    measured: float
    """As it is; as counted where nothing finite came."""


class Yardstick:
    """One number a run, read alike of control and remedies: higher is better after `signed`.

    It is the metric on validation data, without a metric the loss there, without validation data the same on
    training data, always under the objective and the metric of the untouched problem, but for an objective
    that is itself the trouble: then, without a metric, under the one that is put in its place. Of the epochs
    the best counts, which is what a run hands out; where the trouble is that a run does not stay there, the
    last.
    Overfitting shows in the last model's validation loss: a metric such as the accuracy hardly sees how sure
    the wrong answers are. Where rare classes are given up it is the balanced accuracy of the model that the
    run hands out: the accuracy does not miss them.

    Args:
        problem: The untouched problem.
        diagnosis: Of it.
    """

    def __init__(self, problem: Problem, diagnosis: Diagnosis) -> None:
        self.problem, self.run = _judged_by(problem, diagnosis), diagnosis.run
        self.renewed = self.problem is not problem
        self.held = scored(problem)
        root = "" if diagnosis.root is None else diagnosis.root.symptom
        self.rare: Mapping[str, Any] | None = None
        if root == "class-imbalance":
            self.rare = self.run.facts["imbalance"]
            self.judge = problem.edit(metric="balanced_accuracy", metric_goal=None, goal=None)
        overfitted = root == "high-variance" and problem.valid_source is not None
        self.last = overfitted or root in UNSTEADY
        part = "train" if problem.valid_source is None else "valid"
        kind = "loss" if problem.metric is None else "metric"
        self.by = "valid_loss" if overfitted else f"{part}_{kind}"
        self.measure = ("last " if self.last and part == "valid" else "") + self.by.replace("_", " ")
        up = self.problem.direction == "max" if self.by.endswith("metric") else self.problem.maximize
        if self.rare is not None:
            self.by, self.measure, up = f"{part}_metric", f"{part} balanced accuracy", True
        self.sign = 1.0 if up else -1.0
        self.constant: Mapping[str, Any] = self.run.facts.get("constant") or {}
        if (
            root == "non-finite-data"
        ):  # of data with gaps there is no constant guess, of what is left there is
            self.constant = _of_the_rest(problem, diagnosis) or {}
        elif self.renewed:
            self.constant = guess.measure(self.problem, diagnosis.run.recipe or Recipe()) or {}
        self.known: list[float] = []
        self.note(diagnosis)

    @property
    def _key(self) -> str:
        """Under what name the constant guess is known."""
        return _COLUMNS.get(self.by, self.by)

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the most that a score can be; infinite where nothing bounds it."""
        if self.rare is not None or (self.by.endswith("metric") and self.run.metric_name in SHARES):
            return 0.0, 1.0
        return -math.inf, 1.0 if self.by.endswith("metric") and bounded(self.run) else math.inf

    @property
    def _column(self) -> str:
        """Under what name a run's score is known."""
        return f"last_{self._key}" if self.last and self.by.startswith("valid") else self._key

    def note(self, diagnosis: Diagnosis) -> None:
        """Take down what the references of a diagnosis reached."""
        if self.rare is not None:
            self.known = [each for each in (self.rare["weighted"],) if each is not None]
            return
        theirs = self.problem if diagnosis.run.problem is None else diagnosis.run.problem
        if theirs.objective is not self.problem.objective:
            return
        values = [each.get(self._column) for each in diagnosis.run.facts.get("references") or ()]
        self.known += [float(each) for each in values if each is not None and math.isfinite(each)]

    def read(self, run: Run, own: Problem) -> Score:
        """The score of a run of `own`, an edit of the problem."""
        if self.rare is not None:
            value = self._balanced(run)
            return Score(value, value)
        comparable = own.objective is self.problem.objective
        scores = score(run, self.problem, self.held, comparable=comparable)
        worst = self.worst
        value = cast("float | None", scores.get(self._column))
        if value is None or not math.isfinite(value):
            lost = 0.0 if worst is None else worst
            return Score(lost, lost)
        found = float(value)
        return Score(found if worst is None or self.sign * (found - worst) > 0 else worst, found)

    def _balanced(self, run: Run) -> float:
        if run.status == "diverged":
            return self.worst or 0.0
        part = self.held.valid or self.held.train
        return float(evaluate(self.judge, run.model(), part).metric or 0.0)

    @property
    def worst(self) -> float | None:
        """What stands for a lost run: the best constant prediction, else the first loss; None if unknown."""
        if self.rare is not None:
            return 1.0 / self.rare["classes"]
        value: float | None = self.constant.get(self._key)
        if value is None and self.by.endswith("loss") and not self.renewed:
            value = table(self.run, "start").get("loss")
        return float(value) if value is not None and math.isfinite(value) else None

    def signed(self, values: Sequence[float]) -> list[float]:
        """`values` turned so that higher is better."""
        return [self.sign * each for each in values]

    def enough(self, value: float) -> bool:
        """Whether a score leaves nothing to win: the goal is reached, or a bounded metric close to 1."""
        if self.rare is None and self.by == "valid_metric" and self.problem.reached(value):
            return True
        if not self._bounded:
            return False
        low = self.worst or 0.0
        return value - low >= PERFECT * (1.0 - low)

    @property
    def _bounded(self) -> bool:
        """Whether the score is a metric whose best value is 1."""
        return self.rare is not None or (self.by.endswith("metric") and bounded(self.run))

    def least(self, reached: Sequence[float]) -> float:
        """The smallest gain that a person would call one, of the way from the constant to a perfect metric,
        or to the best that was reached.
        """
        if self.worst is None:
            return 0.0
        return LEAST * self.span(reached)

    def span(self, reached: Sequence[float]) -> float:
        """From the constant guess to a perfect metric, or to the best that was reached; 0 if not known."""
        if self.worst is None:
            return 0.0
        return 1.0 - self.worst if self._bounded else self.way(self.worst, reached)

    def way(self, base: float, reached: Sequence[float]) -> float:
        """The gain from `base` to the best that is known to be reachable; 0 if nothing is better."""
        best = max(self.signed([*self.known, *reached]), default=-math.inf)
        return max(0.0, best - self.sign * base)


def _judged_by(problem: Problem, diagnosis: Diagnosis) -> Problem:
    """The problem whose loss is the number: with the objective that a remedy puts in, where without a metric
    the user's own is the trouble: one that compares every output with every target is least at their mean.
    """
    root = diagnosis.root
    if problem.metric is not None or root is None or root.symptom != "objective-mismatch":
        return problem
    edit = next((each for each in root.remedies if isinstance(each, SetObjective)), None)
    try:
        return problem if edit is None else problem.edit(edit)
    except DownslopeError:
        return problem


def _of_the_rest(problem: Problem, diagnosis: Diagnosis) -> Mapping[str, Any] | None:
    """The best constant guess under the first remedy that can be applied; None where there is none."""
    recipe = diagnosis.run.recipe
    edits = [each for f in diagnosis.findings for each in f.remedies if each.provable]
    if not edits or recipe is None:
        return None
    try:
        return guess.measure(edits[0].apply(problem, recipe)[0], recipe)
    except DownslopeError:
        return None
