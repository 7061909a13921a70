"""Ranges widened on the way, where the best lie at their ends: the same for every process in a search."""

from __future__ import annotations

from collections.abc import Sequence

from downslope.core.space import Dimension, parse, settled
from downslope.tuning.edges import edges, widened
from downslope.tuning.plan import Plan
from downslope.tuning.told import number
from downslope.tuning.trials import Trials

FIRST = 16
"""Trials with a value, after which ranges may be widened, and again after as many more."""

MOST = 4
"""How often a search widens."""

KEY = "widened"
"""What the storage notes of the space as it is now."""


class Widening:
    """What was widened so far, and what is to be next.

    Args:
        trials: Of the search; they note what is widened, so that no two processes do it twice.
    """

    def __init__(self, trials: Trials) -> None:
        self.told: list[str] = []
        """What was widened, a line each."""
        self._trials, self._since, self._times = trials, 0, 0

    def begun(self, told: Sequence[str]) -> None:
        """Take note of what earlier sessions have widened."""
        self.told += told
        self._times += bool(told)

    def noted(self, plan: Plan) -> dict[str, Dimension] | None:
        """The space as another process has widened it meanwhile; None where none has."""
        found = self._trials.noted(KEY) if plan.widen else None
        if not found or len(found["told"]) <= len(self.told):
            return None
        self.told, self._since, self._times = list(found["told"]), found["since"], found["times"]
        space = {key: parse(text) for key, text in found["space"].items()}
        return settled(plan.problem, plan.recipe, space)

    def next(self, plan: Plan) -> dict[str, Dimension] | None:
        """The space with every range widened at whose end the best lie; None where none do.

        Not twice on the same trials, nor in two processes.
        """
        with self._trials.batch():
            return self.noted(plan) or self._found(plan)

    def _found(self, plan: Plan) -> dict[str, Dimension] | None:
        done = [each for each in self._trials.all() if each.state == "done"]
        if len(done) - self._since < FIRST or self._times >= MOST:
            return None
        at = [
            each
            for each in edges(done, plan.space, plan.direction, plan.problem, plan.recipe)
            if each.wider is not None
        ]
        if not at:
            return None
        self.told += [
            f"{each.key} after {len(done)} trials, from {each.dimension} to {each.wider}: "
            f"the best lay at {number(each.at)}"
            for each in at
        ]
        self._since, self._times = len(done), self._times + 1
        space = widened(plan.space, at)
        texts = {key: each.text() for key, each in space.items()}
        state = {"space": texts, "told": self.told, "since": self._since, "times": self._times}
        self._trials.note(KEY, state)
        return space
