"""The contest of a repair: control and remedies as one population, from the same seeds, within the budget."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from downslope.core.budget import Budget
from downslope.core.edits import Combined, Edit
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import ENDED, Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.paired import NO_DIFFERENCE, Difference, difference
from downslope.diagnosis.trial import Trial, Verdict
from downslope.diagnosis.yardstick import Yardstick
from downslope.training.facts import one_line
from downslope.training.hushed import hushed
from downslope.training.population import fit_population
from downslope.training.price import Price, total_steps
from downslope.training.targets import reported

LEAST = 20
"""Steps below which a trial says nothing."""

UNTOUCHED = Combined(())
"""The edit of the control."""

MARGIN = 1.2
"""What a trial may take beyond what is expected of it."""


@dataclass(eq=False)
class Arm:
    """One contestant: an edit, or the untouched control."""

    edit: Edit
    """An empty `Combined` of the control."""
    problem: Problem
    recipe: Recipe
    scores: dict[int, float] = field(default_factory=dict[int, float])
    """Seed to score, as it counts."""
    measured: dict[int, float] = field(default_factory=dict[int, float])
    """Seed to score, as it was measured."""
    error: str = ""
    """Why it cannot be trained."""
    rising: bool = False
    """Whether it was still getting better at its end."""
    prolonged: bool = False
    """Whether it takes more steps than the control."""
    chosen_by: int | None = None
    """The seed that chose it among many: its score there is the luckiest of them, and proves nothing."""
    refuted: bool = False
    """Whether its gain did not show on other splits of the data."""
    left_at: str = ""
    """Why it was given no more seeds."""

    def told(self, seed: int) -> float:
        """The score of `seed` as people are told it."""
        return self.measured.get(seed, self.scores[seed])

    @property
    def below(self) -> bool:
        """Whether any score is worse than what it counts as."""
        return any(self.told(each) != counted for each, counted in self.scores.items())

    @property
    def proving(self) -> list[int]:
        """The seeds that had no part in choosing it."""
        return [each for each in self.scores if each != self.chosen_by]


class Contest:
    """Trains arms seed by seed and holds what they scored.

    Args:
        problem: Untouched.
        recipe: Untouched.
        yard: What a run is judged by.
        budget: Of the whole repair; its steps, where it counts steps, are the most that a trial takes.
        price: Of one untouched run; None where no step can be taken.
        runs: Trials that have to fit into the time that is left; they are cut so that they do.
    """

    def __init__(
        self,
        problem: Problem,
        recipe: Recipe,
        yard: Yardstick,
        budget: Budget,
        price: Price | None,
        runs: int,
    ) -> None:
        self.yard, self.budget = yard, budget
        self.control = Arm(UNTOUCHED, problem, recipe)
        self.arms: dict[str, Arm] = {}
        self.full = None if price is None else price.steps
        self.per_step = 0.0 if price is None else _per_step(price)
        self.cut = self._cut(runs)
        self.trained = 0
        self.held_back = 0.0
        """Seconds that no trial may take now: they are for the proof of what is being chosen."""

    def _cut(self, runs: int) -> int | None:
        """Steps that a trial may take at most; None for no limit."""
        most = self.budget.steps
        if math.isfinite(self.budget.left) and self.per_step:
            held = int(max(self.budget.left, 0.0) / (MARGIN * runs * self.per_step))
            if self.full is None or held < self.full:
                most = held
        return None if most is None or (self.full is not None and most >= self.full) else most

    def arm(self, edit: Edit) -> Arm:
        """The arm of `edit`; the same for the same words."""
        words = str(edit)
        if words not in self.arms:
            start = self.control
            try:
                problem, recipe = edit.apply(start.problem, start.recipe)
                longer = (total_steps(problem, recipe) or 0) > (self.full or math.inf)
                self.arms[words] = Arm(edit, problem, recipe, prolonged=longer)
            except Exception as error:  # noqa: BLE001 (an edit can bring anybody's code to what it does not take)
                self.arms[words] = Arm(edit, start.problem, start.recipe, error=one_line(error))
        return self.arms[words]

    def on(self, problem: Problem, diagnosis: Diagnosis) -> Contest:
        """The same contest on other data of the same problem, where nothing is scored yet."""
        other = copy.copy(self)
        other.yard = Yardstick(problem, diagnosis)
        other.control = Arm(UNTOUCHED, problem, self.control.recipe)
        other.arms = {}
        return other

    def seen(self, run: Run, seed: int) -> None:
        """Take the diagnosed run for the control's of `seed`, where it is the same run."""
        same = run.problem is self.control.problem and run.recipe == self.control.recipe
        ended = run.status in ENDED and not run.facts.get("cut")
        if same and ended and self.cut is None and "last" in run.weights and self.control.recipe.seed == seed:
            self._take(self.control, seed, run)

    def train(self, arms: Iterable[Arm], seed: int) -> bool:
        """Train those of `arms` that have no score of `seed` yet; False where the time does not allow all.

        Raises:
            KeyboardInterrupt: Ctrl-C during a member: a score of half a run is no score.
        """
        arms = list(arms)
        if self.control.error and self.control in arms:  # what cannot be trained is lost from every seed
            self.control.scores.setdefault(seed, self._lost)
        wanted = [each for each in dict.fromkeys(arms) if seed not in each.scores and not each.error]
        able = self._affordable(wanted)
        runs = self._population(able, seed)
        for arm, run in zip(able, runs, strict=False):
            if run.status == "interrupted":
                raise KeyboardInterrupt
            self._take(arm, seed, run)
        return len(runs) == len(wanted)

    @reported()
    @hushed()
    def _population(self, arms: Sequence[Arm], seed: int) -> list[Run]:
        if not arms:
            return []
        begun = time.monotonic()
        until = self.budget.ends if math.isfinite(self.budget.ends) else None
        problems = [each.problem for each in arms]
        recipes = [self._shortened(each.problem, each.recipe).edit(seed=seed) for each in arms]
        runs = fit_population(
            problems, recipes, progress=False, strict=False, until=until, way="one by one"
        )  # paired runs are compared to the last bit
        steps = sum(int(run.summary.get("steps") or 0) for run in runs if run.status == "done")
        if steps:
            self.per_step = max(0.5 * self.per_step, (time.monotonic() - begun) / steps)
        return runs

    def _take(self, arm: Arm, seed: int, run: Run) -> None:
        self.trained += 1
        if run.status == "failed":
            arm.error = str(run.facts.get("error") or "the run failed")
            if arm is self.control:  # it stays in the contest, as a lost run
                arm.scores[seed] = self._lost
            return
        arm.scores[seed], arm.measured[seed] = self.yard.read(run, arm.problem)
        arm.rising = _rising(run, self.yard)

    @property
    def _lost(self) -> float:
        """The score of a run that could not be trained."""
        worst = self.yard.worst
        return 0.0 if worst is None else worst

    def _shortened(self, problem: Problem, recipe: Recipe) -> Recipe:
        """The recipe, ended where the trials are cut."""
        if self.cut is None:
            return recipe
        steps = total_steps(problem, recipe)
        return recipe if steps is not None and steps <= self.cut else recipe.edit(steps=max(1, self.cut))

    def cost(self, arm: Arm) -> float:
        """Seconds that a trial is expected to take."""
        steps = total_steps(arm.problem, arm.recipe) or self.cut or 0
        return MARGIN * self.per_step * (steps if self.cut is None else min(steps, self.cut))

    def _affordable(self, arms: Sequence[Arm]) -> list[Arm]:
        left, able = self.budget.left - self.held_back, list[Arm]()
        for arm in arms:
            left -= self.cost(arm)
            if left < 0:
                break
            able.append(arm)
        return able

    # -- what they scored ---------------------------------------------------------------------------------

    def gains(self, arm: Arm, over: Arm | None = None, seeds: Iterable[int] | None = None) -> list[float]:
        """Paired differences of `arm` from the control, or from `over`, on the seeds that prove something."""
        base = over or self.control
        if arm.error:
            return []
        common = [
            s for s in (arm.proving if seeds is None else seeds) if s in arm.scores and s in base.scores
        ]
        return [self.yard.sign * (arm.scores[s] - base.scores[s]) for s in common]

    def gain(self, arm: Arm) -> Difference:
        """The paired difference from the control with its interval."""
        found = self.gains(arm)
        return difference(found, [0.0] * len(found)) if found else NO_DIFFERENCE

    @property
    def way(self) -> float:
        """From the control to the best that anything is known to have reached in the mean, 0 if nothing."""
        if not self.control.scores:
            return 0.0
        return self.yard.way(fmean(self.control.scores.values()), self._means)

    def share(self, arm: Arm) -> float:
        """Share of the way from the control to what is known to be reachable that `arm` goes."""
        way, won = self.way, self.gains(arm, seeds=arm.scores)
        return fmean(won) / way if way > 0 and won else 1.0

    @property
    def least(self) -> float:
        """The smallest gain that is worth a change."""
        return self.yard.least(self._means)

    @property
    def _means(self) -> list[float]:
        return [fmean(each.scores.values()) for each in self.arms.values() if each.scores]

    def proved(self, arm: Arm) -> bool:
        """Whether the gain of `arm` is certain, and large enough to be worth a change."""
        gain = self.gain(arm)
        return gain.sure and gain.mean >= self.least

    def trial(self, arm: Arm, kept: Arm | None) -> Trial:
        """What came of `arm`, beside the control, where `kept` is what was chosen."""
        edit = arm.edit
        if arm.error:
            return Trial(edit=edit, verdict="failed", reason=arm.error)
        seeds = [each for each in arm.proving or arm.scores if each in self.control.scores]
        gain = self._possible(difference(self.gains(arm, seeds=seeds), [0.0] * len(seeds)), seeds)
        sure = gain.sure and not arm.refuted
        verdict: Verdict = "works, not kept" if sure else "worse" if gain.high < 0 else "not confirmed"
        return Trial(
            edit=edit,
            before=tuple(self.control.told(each) for each in seeds),
            after=tuple(arm.told(each) for each in seeds),
            seeds=tuple(seeds),
            gain=gain,
            verdict="kept" if arm is kept else verdict,
            reason="" if arm is kept or sure else arm.left_at,
        )

    def _possible(self, gain: Difference, seeds: Sequence[int]) -> Difference:
        """`gain` with an interval that leads to no score which the metric cannot take."""
        if not seeds:
            return gain
        start, sign = fmean(self.control.scores[each] for each in seeds), self.yard.sign
        ends = sorted(sign * (end - start) for end in self.yard.limits)
        return gain.within(ends[0], ends[1])


def check_possible(contest: Contest) -> str:
    """Why no trial can be made within the budget; "" where it can."""
    if contest.cut is None or contest.cut >= LEAST or (contest.full or LEAST) < LEAST:
        return ""
    return f"No time was left for a trial: {contest.cut} steps each are too few to tell."


def _per_step(price: Price) -> float:
    if not price.steps:
        return price.per_step
    return price.seconds / price.steps


def _rising(run: Run, yard: Yardstick) -> bool:
    """Whether the best of the validation scores came in the last tenth of the run."""
    series = run.history.series("valid_metric" if yard.by == "valid_metric" else "valid_loss")
    values = yard.sign * series.values
    if len(values) < 3 or not np.isfinite(values[1:]).any():
        return False
    best = int(np.nanargmax(np.where(np.isfinite(values), values, -np.inf)))
    return bool(series.steps[best] >= 0.9 * series.steps[-1])


def middling(scores: Mapping[int, float], seeds: Sequence[int]) -> int:
    """The seed of the middling score, the first one where there is none."""
    known = sorted((each for each in seeds if each in scores), key=lambda each: scores[each])
    return known[len(known) // 2] if known else seeds[0]
