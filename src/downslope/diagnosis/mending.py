"""How a repair goes: race the remedies, look again, tune what is left, and keep what is proved.

1. **Race.** The remedies of the diagnosis train beside the untouched control, seed by seed, and drop out as
   soon as they are surely behind (`downslope.diagnosis.elimination`).
2. **Again.** Where the repaired run is still far from what is reachable it is diagnosed in its turn, and the
   remedies of what is found are raced on top of the first.
3. **Tune.** With the time that is left a line search in the logarithm of the learning rate, other methods and
   scales are tried from one seed (`downslope.diagnosis.moves`), as long as each round wins something.
   What wins there has to win again on seeds that did not choose it.
4. **Keep** the best of what is certain (`downslope.diagnosis.choice`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from downslope.core.budget import Budget
from downslope.core.edits import Combined, Edit
from downslope.core.errors import DownslopeError
from downslope.core.numerals import many
from downslope.diagnosis.candidates import candidates, joined, parts, rate_alone, size, unique
from downslope.diagnosis.choice import Choice
from downslope.diagnosis.contest import MARGIN, Arm, Contest, check_possible, middling
from downslope.diagnosis.diagnose import diagnose
from downslope.diagnosis.elimination import alive, leader
from downslope.diagnosis.moves import longer, moves, rates
from downslope.diagnosis.trial import mean
from downslope.diagnosis.yardstick import Yardstick
from downslope.training.price import Price, price

if TYPE_CHECKING:
    from downslope.diagnosis.repair import Repair

FAR = 0.9
"""Share of the way to what is reachable under which a repaired run is looked at again."""

LOOKS = 2
"""Times that a repaired run is diagnosed in its turn."""

ROUNDS = 6
"""Rounds of tuning at most; each starts from the best of the one before."""

MORE = 3
"""Multiple of the seeds that is spent at most on a remedy that looks better but is not certain."""

CONFIRMED = 2
"""Tuned recipes that are put to the seeds that did not choose them."""

SHOWN = 8
"""Edits that a note names of those tried from one seed."""

HOPELESS = ("constant-target", "non-finite-data")
"""Roots that leave nothing to tune: no recipe learns what is not there."""

MISLEADING = ("dataset-shift", "mixed-examples")
"""Roots under which a score says little while they are there: what is tuned by it fits the fault."""

TOO_LATE = "No time was left for other recipes: what is tried has to be proved too."

WHOLE = "Trials that are cut may miss what a whole run would show: a budget of {}m holds whole ones."

UNMEASURED = (
    "Nothing was tried: on these targets the objective falls without end, so it tells no better from worse. "
    "Put it right first, or give a metric to judge by."
)

BY_HAND = "No recipe was looked for: what is wrong is to be put right by hand first."


class Mending:
    """A repair on its way.

    Args:
        result: Filled in as it goes.
        seeds: Seeds of each remedy.
        budget: Of the whole.
        talk: Whether to say on standard error what is being done.
    """

    def __init__(self, result: Repair, seeds: int, budget: Budget, talk: bool) -> None:
        self.result, self.budget, self.talk = result, budget, talk
        self.problem, self.recipe = result.problem, result.recipe
        self.begun = budget.spent
        self.seeds = result.seeds = tuple(self.recipe.seed + index for index in range(seeds))
        self.yard = Yardstick(self.problem, result.diagnosis)
        result.measure = self.yard.measure
        self.probe = self.seeds[0]

    def go(self) -> None:
        """All of it; what is proved by the time of Ctrl-C stands."""
        edits, self.result.advice = candidates(self.result.diagnosis)
        endless = (self.result.diagnosis.run.facts.get("output") or {}).get("outside") is not None
        if endless and self.problem.metric is None:
            self.result.advice = unique([*edits, *self.result.advice])
            self.result.notes.append(UNMEASURED)
            return
        own = self._price()
        if not edits and own is None:
            self.result.notes.append("No remedy can be applied without a change by hand.")
            return
        runs = 2 * (1 + min(max(len(edits), 1), 3))
        self.contest = Contest(self.problem, self.recipe, self.yard, self.budget, own, runs)
        self.choice = Choice(self.contest, self.result.diagnosis, self.seeds, self._say)
        if impossible := check_possible(self.contest):
            self.result.notes.append(impossible)
            return
        self._tell(len(edits))
        try:
            self._begin()
            self._race(edits)
            self._again()
            self._tune()
            self._again()
        except KeyboardInterrupt:
            self.choice.interrupted = True
        self._close()
        if self.choice.interrupted:
            self.result.stopped()

    def _price(self) -> Price | None:
        try:
            return price(self.problem, self.recipe)
        except Exception:  # noqa: BLE001 (a problem that takes no step can be sick in any way)
            return None

    def _tell(self, count: int) -> None:
        contest = self.contest
        if contest.cut is not None:
            of = contest.full or "an unknown number of"
            self.result.notes.append(f"Trials were cut to {contest.cut} of {of} steps by the budget.")
        seconds = contest.cost(contest.control) * len(self.seeds) * (1 + max(count, 1))
        what = f"{many(count, 'remedy')} x {many(len(self.seeds), 'seed')} beside the unchanged recipe"
        self._say(
            f"{what}: about {min(seconds, self.budget.left):.0f} s, and what is left of "
            f"{self.budget.left:.0f} s while it wins something"
            if self.budget.steps is None
            else what
        )

    def _say(self, text: str) -> None:
        if self.talk:
            sys.stderr.write(f"repair    {text}\n")  # by lines, so it is not held back

    # -- 1. the race ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The control's first score: that of the diagnosed run, where it is the same run."""
        self.contest.seen(self.result.diagnosis.run, self.seeds[0])
        self.contest.train([self.contest.control], self.seeds[0])

    def _race(self, edits: Sequence[Edit]) -> None:
        """Every remedy from the first seed, those that are not surely behind from the others."""
        contest = self.contest
        runners = [each for each in map(contest.arm, edits) if each not in self.choice.raced]
        self.choice.raced += runners
        for arm in runners:
            self._say(f"trial of {arm.edit}")
        for seed in self.seeds:
            whole = contest.train([contest.control, *runners], seed)
            for arm in runners:
                if not arm.scores and not arm.error:
                    self.result.notes.append(f"No time was left for: {arm.edit}.")
            runners = [each for each in runners if seed in each.scores and not each.error]
            stay = alive({arm: contest.gains(arm) for arm in runners})
            for arm in runners:
                if arm not in stay:
                    arm.left_at = f"given up after {_seeds(len(arm.scores))}: surely behind, or no gain"
            runners = stay
            if not whole or not runners:
                break
        self._insist(runners)

    def _insist(self, runners: Sequence[Arm]) -> None:
        """Where nothing is certain but something looks better: more seeds, of control and remedy."""
        contest = self.contest
        first = leader({arm: contest.gains(arm) for arm in runners})
        if first is None:
            return
        count = len(self.seeds)
        for more in range(1, MORE):  # an interval that is looked at after every seed is soon wrong
            gain = contest.gain(first)
            if gain.sure or gain.high < contest.least or gain.mean <= 0:
                return
            self._say(f"{count} more seeds of {first.edit}")
            for seed in range(self.seeds[-1] + 1 + (more - 1) * count, self.seeds[-1] + 1 + more * count):
                if not contest.train([contest.control, first], seed):
                    self.result.notes.append(f"No time was left for more seeds of: {first.edit}.")
                    return

    def _enough(self, arm: Arm) -> bool:
        return bool(arm.scores) and self.yard.enough(fmean(arm.scores.values()))

    # -- 2. another look ------------------------------------------------------------------------------------

    def _again(self) -> None:
        """Diagnose what is repaired so far, and race what that brings on top of it."""
        while len(self.result.looks) < LOOKS:
            best = self.choice.best
            if best is None or self._enough(best):
                return
            if self.yard.known and self.contest.share(best) >= FAR and self.result.looks:
                return
            edits = self._look(best)
            if not edits:
                return
            beside = edits if rate_alone(best.edit) else []  # the rate was that of another model
            self._race(unique([*(joined(best.edit, each, self.recipe) for each in edits), *beside]))
            now = self.choice.best
            if now is None or self._ahead(now, best) < self.choice.material:
                return

    def _look(self, best: Arm) -> list[Edit]:
        """The remedies of a diagnosis of the repaired problem."""
        budget = f"{self.budget.steps} steps" if self.budget.steps else 0.5 * self.budget.left
        if not self.budget.steps and self.budget.left < 4 * self.contest.cost(best):
            return []
        self._say(f"another look, with {best.edit}")
        try:
            found = diagnose(best.problem, best.recipe, budget=budget, progress=False, folder=False)
        except DownslopeError:
            return []
        if found.interrupted:
            raise KeyboardInterrupt
        self.result.looks.append(found)
        self.yard.note(found)
        if found.healthy:
            return []
        edits, advice = candidates(found)
        self.result.advice = unique([*self.result.advice, *advice])
        return edits

    def _ahead(self, arm: Arm, base: Arm, seeds: Sequence[int] | None = None) -> float:
        found = self.contest.gains(arm, base, seeds)
        return fmean(found) if found else 0.0

    # -- 3. what is left ------------------------------------------------------------------------------------

    def _tune(self) -> None:
        """Moves from the best so far, while each round wins on the seed where that was middling."""
        contest, base = self.contest, self.choice.best or self.contest.control
        root = self.result.diagnosis.root
        if base is contest.control and (contest.control.error or (root and root.symptom in HOPELESS)):
            return
        if root is not None and root.symptom in MISLEADING and not any(e.provable for e in root.remedies):
            self.result.notes.append(BY_HAND)
            return
        if self._enough(base):
            return
        self.probe = middling(base.scores, self.seeds)
        here = base
        for _ in range(ROUNDS):
            best = self._from(here, self._moves(here)) or self._from(here, self._longer(here))
            if best is None:
                break
            here = best
        if here is not base:
            self._simplify(here, base)
        contest.held_back = 0.0
        self._confirm(base)

    def _simplify(self, arm: Arm, base: Arm) -> None:
        """Take away, part by part, what that seed does not miss; what `base` has stays."""
        contest, fixed = self.contest, {str(each) for each in parts(base.edit)}
        slack, whole, known = self.choice.material, arm, {*self.choice.looked, *self.choice.raced}
        for part in map(str, parts(whole.edit)):
            rest = tuple(each for each in parts(arm.edit) if str(each) != part)
            if part in fixed or not rest:
                continue
            less = contest.arm(joined(Combined(()), Combined(rest), self.recipe))
            contest.train([less], self.probe)
            if self.probe not in less.scores:
                continue
            if less not in known:
                self._noted([less])
            if self._won(less, whole) >= -slack:
                arm = less

    def _moves(self, here: Arm) -> list[Edit]:
        if here.prolonged:
            return rates(here.recipe)
        far = here is self.contest.control or self.contest.share(here) < FAR
        return moves(self.result.diagnosis.run, here.problem, here.recipe, far=far)

    def _longer(self, here: Arm) -> list[Edit]:
        """More steps, where the run was still getting better at its end and is far from what is reachable."""
        far = here is self.contest.control or self.contest.share(here) < FAR or not self.yard.known
        return [longer(here.recipe)] if here.rising and far and not here.prolonged else []

    def _from(self, here: Arm, tried: Sequence[Edit]) -> Arm | None:
        """The best of the moves from `here`, from one seed each; None where none wins what matters."""
        contest = self.contest
        arms = [contest.arm(joined(here.edit, each, self.recipe)) for each in tried]
        known = {*self.choice.looked, *self.choice.raced}
        arms = [each for each in arms if each not in known and str(each.edit)]  # "" is the control again
        if not arms:
            return None
        self._say(f"{len(arms)} moves from {str(here.edit) or 'the unchanged recipe'}")
        arms = [each for each in arms if contest.cost(each) + self._proof(each) <= self.budget.left]
        if not arms:
            self.result.notes += [] if TOO_LATE in self.result.notes else [TOO_LATE]
            return None
        contest.held_back = max(map(self._proof, arms))
        contest.train(arms, self.probe)
        arms = [each for each in arms if self.probe in each.scores]
        self._noted(arms)
        best = max(arms, key=lambda each: self._won(each, here), default=None)
        return best if best is not None and self._won(best, here) > self.choice.material else None

    def _proof(self, arm: Arm) -> float:
        """Seconds to prove `arm` beside the control: what is chosen and cannot be proved is of no use."""
        return len(self.seeds) * (self.contest.cost(arm) + self.contest.cost(self.contest.control))

    def _noted(self, arms: Sequence[Arm]) -> None:
        """The seed that chooses among the moves is no proof of them."""
        self.choice.looked += arms
        for arm in arms:
            arm.chosen_by = self.probe

    def _won(self, arm: Arm, here: Arm) -> float:
        """What `arm` wins over `here` on the seed of the moves."""
        return self._ahead(arm, here, (self.probe,))

    def _confirm(self, base: Arm) -> None:
        """The best of what was tuned, from the seeds that did not choose it."""
        contest = self.contest
        hopeful = [each for each in self.choice.looked if self._won(each, base) > self.choice.material]
        slack = self.choice.material
        top = max((self._won(each, base) for each in hopeful), default=0.0)
        # Of those that did as well as the best the smallest change comes first.
        hopeful.sort(
            key=lambda each: (self._won(each, base) < top - slack, size(each.edit), -self._won(each, base))
        )
        for arm in hopeful[:CONFIRMED]:
            self._say(f"other seeds of {arm.edit}")
            for seed in (*(each for each in self.seeds if each != self.probe), self.seeds[-1] + 1):
                if not contest.train([contest.control, base, arm], seed):
                    self.result.notes.append(f"No time was left for more seeds of: {arm.edit}.")
                    return
        if base is contest.control:
            self._insist([each for each in hopeful[:CONFIRMED] if contest.gains(each)])

    # -- 4. the choice --------------------------------------------------------------------------------------

    def _close(self) -> None:
        """Write down what was tried and what is kept."""
        result, contest = self.result, self.contest
        kept = self.choice.final()
        shown = [*self.choice.raced, *(each for each in self.choice.looked if len(each.scores) > 1)]
        result.trials = [contest.trial(each, kept) for each in shown if each.scores or each.error]
        result.screened = [contest.trial(each, kept) for each in self.choice.looked if len(each.scores) == 1]
        if result.screened:
            words = [str(each.edit) for each in result.screened]
            rest = f"; and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
            result.notes.append(f"Tried from one seed besides: {'; '.join(words[:SHOWN])}{rest}.")
        if contest.control.scores:
            result.before = fmean(map(contest.control.told, contest.control.scores))
            arms = [contest.control, *contest.arms.values()]
            result.floor = self.yard.worst if any(each.below for each in arms) else None
        if kept is None:
            result.notes += self._short()
            return
        proof = next(each for each in result.trials if each.verdict == "kept")
        result.kept, result.before, result.after = kept.edit, mean(proof.before), mean(proof.after)
        result.problem, result.recipe = kept.problem, kept.recipe

    def _short(self) -> list[str]:
        """What budget would do, where nothing is proved and the seconds cut the trials."""
        contest, given = self.contest, self.budget.seconds
        if not math.isfinite(given) or contest.cut is None or contest.full is None or not self.choice.raced:
            return []
        runs = MORE * len(self.seeds) * (1 + len(self.choice.raced))
        need = self.begun + MARGIN * contest.per_step * contest.full * runs
        return [WHOLE.format(math.ceil(need / 60))] if need > given else []


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
