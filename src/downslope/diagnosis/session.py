"""What a diagnosis may spend, and its paired trials: each as long as the time that is left allows."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any, Literal

from downslope.core.edits import Edit, SetObjective, SetRecipe
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.budget import Budget
from downslope.diagnosis.price import Price, total_steps
from downslope.diagnosis.trials import attempt, by_the_new, compare
from downslope.training.facts.sample import Held

Folder = str | Path | Literal[False] | None

_SHORTEST = 0.2
"""A trial shorter than this share of the run says too little about its end."""


class Session:
    """A run beside which remedies are tried.

    Args:
        problem: As the user gave it.
        recipe: The same.
        budget: Of the whole diagnosis.
        talk: Whether to say on standard error what is being done.
        folder: Of the run.
    """

    held: Held

    def __init__(self, problem: Problem, recipe: Recipe, budget: Budget, talk: bool, folder: Folder) -> None:
        self.problem, self.recipe, self.budget, self.talk = problem, recipe, budget, talk
        self.folder: Folder = folder
        self.run = Run(problem=problem, recipe=recipe, described=problem.describe())
        self.notes: list[str] = []
        self.price: Price | None = None
        self.length: int | None = None
        self.limit = math.inf
        self.together = False
        self.surveyed = False

    def _say(self, text: str) -> None:
        if self.talk:
            sys.stderr.write(f"diagnose  {text}\n")
            sys.stderr.flush()

    def _trial(self, edit: Edit) -> dict[str, Any] | None:
        """One paired trial of `edit`, as long as the time allows; None where it does not."""
        own = _own_length(edit)
        share = self._share_of_run()
        longer = (total_steps(*edit.apply(self.problem, self.recipe)) or 0) if own else 0
        if own and time.monotonic() + self._cost(longer / max(self._full(), 1)) > self.limit:
            share = None
        if share is None:
            self.notes.append(f"No time for a trial of {edit}.")
            return None
        full = share >= 1 or own
        steps = self._full() if full else max(10, int(share * int(self.run.summary.get("steps") or 0)))
        if own:
            steps = longer or steps
        self._say(f"trial of {edit}, {steps} steps")
        found = attempt(self.problem, self.recipe, edit, steps, self.held, self._patience())
        if found.get("status") == "cut":
            self.notes.append(f"No time for a trial of {edit}: it took longer than foretold.")
            return None
        if found.get("status") == "interrupted":
            self.notes.append("Interrupted: what was not tried by then is not judged.")
            self.limit = 0.0
            return None
        beside = compare(self.run, found, None if full else steps)
        if isinstance(edit, SetObjective) and self.problem.metric is None and "renewed" in found and full:
            beside = by_the_new(self.run, self.problem, self.recipe, edit, found, self.held)
        return found | beside | {"edit": str(edit), "full": full, "steps": steps, "longer": own}

    def _full(self) -> int:
        """Steps of the whole run; a run that broke off had more before it."""
        if self.length is not None:
            return self.length
        steps = None if self.price is None else self.price.steps
        return steps if steps is not None else int(self.run.summary.get("steps") or 1)

    def _patience(self) -> float | None:
        """Seconds that one more trial may take, however long it was foretold to take."""
        left = self.limit - time.monotonic()
        return None if math.isinf(left) else max(1.5 * left, 0.1)

    def _recipe(self) -> Recipe:
        return self.recipe if self.length is None else self.recipe.edit(steps=self.length)

    def _cost(self, share: float) -> float:
        """Seconds of a trial over `share` of the run; half as much again for what an edit may add."""
        took = float(self.run.facts.get("seconds") or 0.0)
        planned = took
        if self.price is not None:
            planned = max(self.price.seconds, self.price.per_step * self._full())
        return 1.2 * share * max(took if self.run.status == "done" else planned, 0.02)

    def _share_of_run(self) -> float | None:
        left = self.limit - time.monotonic()
        for share in (1.0, 0.5, _SHORTEST):
            if self._cost(share) <= left * (1.0 if share < 1 else 0.6):
                return share
        return None


def _own_length(edit: Edit) -> bool:
    """Whether an edit says itself how many steps a run has."""
    return isinstance(edit, SetRecipe) and bool({"epochs", "steps", "batch_size"} & set(edit.changes))
