"""What a repair keeps: the best whose 95 % interval lies above zero, or a smaller change that does as well.

A small gain has to show on other splits of the data too (`downslope.diagnosis.other_splits`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from downslope.diagnosis.candidates import size
from downslope.diagnosis.contest import Arm, Contest
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.elimination import EQUAL
from downslope.diagnosis.other_splits import REFUTED, elsewhere, foretold, small
from downslope.diagnosis.paired import difference

MATERIAL = 0.02
"""Share of the way that a further change must win to be worth its words. Convention."""

CLOSE = 0.95
"""Share of the way from which on a further change must win for certain. Convention."""

UNSETTLED = "a small gain, not put to other splits of the data: interrupted"


class Choice:
    """The arms that a repair has tried, and which of them it would keep.

    Args:
        contest: Where they train.
        diagnosis: Of the untouched problem.
        seeds: Of each remedy.
        say: Told what is being done.
    """

    def __init__(
        self, contest: Contest, diagnosis: Diagnosis, seeds: Sequence[int], say: Callable[[str], None]
    ) -> None:
        self.contest, self.diagnosis, self.seeds, self.say = contest, diagnosis, seeds, say
        self.raced: list[Arm] = []
        """Remedies of a diagnosis."""
        self.looked: list[Arm] = []
        """What was tried in tuning."""
        self.interrupted = False
        """Whether Ctrl-C has come: nothing is trained any more."""

    @property
    def material(self) -> float:
        """What a further change must win."""
        return max(MATERIAL * self.contest.way, self.contest.least)

    @property
    def best(self) -> Arm | None:
        """The certain remedy that wins most in the mean."""
        return max(self._sure(), key=lambda each: self.contest.gain(each).mean, default=None)

    def _sure(self) -> list[Arm]:
        arms = [*self.raced, *self.looked]
        return [each for each in arms if self.contest.proved(each) and self._fresh(each) and not each.refuted]

    def _fresh(self, arm: Arm) -> bool:
        """Whether a tuned recipe was put to seeds that did not choose it."""
        return arm in self.raced or len(arm.scores) >= len(self.seeds)

    def final(self) -> Arm | None:
        """The choice; a small gain has to show on other splits of the data too."""
        named = foretold(self.diagnosis)
        while (kept := self._choose()) is not None:
            if (kept in self.raced and named) or not small(self.contest, kept) or self._holds(kept):
                return kept
            kept.refuted = True
        return None

    def _holds(self, kept: Arm) -> bool:
        """Whether a small gain is one on other splits; where it cannot be known the seeds decide."""
        kept.left_at = UNSETTLED
        if self.interrupted:
            return False
        self.say(f"other splits of the data for {kept.edit}")
        try:
            again = elsewhere(self.contest, kept, self.diagnosis, self.seeds[0])
        except KeyboardInterrupt:
            self.interrupted = True
            return False
        kept.left_at = REFUTED
        return again is None or again.sure

    def _choose(self) -> Arm | None:
        """The best certain remedy, or a smaller one that does as well; a larger one must do better for sure
        than a smaller one that comes close to what is reachable.
        """
        best = self.best
        if best is None:
            return None
        gain, top = self.contest.gain, self.contest.gain(best).mean
        slack = max(EQUAL * top, self.material if best in self.looked else 0.0)
        near = [each for each in self._sure() if gain(each).mean >= top - slack or self._does(each, best)]
        return min(near, key=lambda each: (size(each.edit), -gain(each).mean))

    def _does(self, arm: Arm, best: Arm) -> bool:
        """Whether `arm` comes close to what is reachable, and `best` is not surely ahead of it."""
        ahead = self.contest.gains(best, arm)
        certain = len(ahead) > 1 and difference(ahead, [0.0] * len(ahead)).sure
        return self.contest.share(arm) >= CLOSE and not certain
