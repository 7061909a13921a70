"""What a diagnosis may spend, and its paired trials: each as long as the time that is left allows."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from downslope.core.budget import Budget
from downslope.core.edits import Edit, SetObjective, SetRecipe
from downslope.core.finding import Finding
from downslope.core.fixed_sample import Held
from downslope.core.history import encode
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis import counted
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.judge import judge
from downslope.diagnosis.stood import leaves_the_guess, stood
from downslope.diagnosis.symptom import rank_of
from downslope.diagnosis.trials import Scores, attempt, by_the_new, compare
from downslope.diagnosis.unjudged import NO_TIME, broken_off, out_of_time
from downslope.training.facts import record
from downslope.training.price import Price, total_steps

Folder = str | Path | Literal[False] | None

_SHORTEST = 0.2
"""A trial shorter than this share of the run says too little about its end."""

_SPARE = 1.0
"""Seconds that a trial may take beyond what was left, of the 2 that are left for what cannot be timed."""

_ALONE = 0.3
"""Share of the time left that one trial may take before a shorter one is made in its stead. Convention."""


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
        self.put_off: set[str] = set()
        self.doing = ""
        self.late: list[str] = []

    def _skip(self, note: str) -> None:
        """Say that the budget leaves something out; nothing that it would have decided is clear then."""
        self.notes.append(note)
        out_of_time(self.run)

    def _record(self, name: str, measure: Callable[[], Any]) -> None:
        """Measure a fact of the run, unless the budget is used up."""
        if time.monotonic() <= self.budget.ends:
            record(self.run, name, measure)
            return
        self.run.facts.setdefault("not_measured", {})[name] = NO_TIME
        self.late.append(name)
        out_of_time(self.run)

    def _say(self, text: str) -> None:
        self.doing = text
        if self.talk:
            sys.stderr.write(f"diagnose  {text}\n")
            sys.stderr.flush()

    def _trial(self, edit: Edit, *, brief: bool = False) -> dict[str, Any] | None:
        """One paired trial of `edit`, as long as the time allows; None where it does not.

        Args:
            edit: The remedy.
            brief: Whether a short trial that settled nothing is enough for now; it has the key ``brief``.
        """
        own = _own_length(edit)
        share = self._share_of_run()
        longer = (total_steps(*edit.apply(self.problem, self.recipe)) or 0) if own else 0
        if (
            own
            and time.monotonic() + self._cost(longer / max(self._full(), 1)) * self._lighter(edit)
            > self.limit
        ):
            share = None
        if share is None:
            self._skip(f"No time for a trial of {edit}.")
            return None
        full = share >= 1 or own
        steps = self._full() if full else max(10, int(share * int(self.run.summary.get("steps") or 0)))
        if own:
            steps = longer or steps
        if not own and share > _SHORTEST and self._tight(share):
            few = max(10, int(_SHORTEST * int(self.run.summary.get("steps") or 0)))
            found = self._paired(edit, few, full=False, own=False)
            if found is None or leaves_the_guess(self.run, found):
                return found
            if brief:
                return found | {"brief": True}
            if self._cost(share) > self.limit - time.monotonic():
                return found
        return self._paired(edit, steps, full=full, own=own)

    def _tight(self, share: float) -> bool:
        """Whether a trial over `share` of a run that stood from its start takes what others need: a short one
        that gets away from where the run stands is proof enough.
        """
        left = self.limit - time.monotonic()
        return stood(self.run) and self._cost(share) > _ALONE * left

    def _paired(self, edit: Edit, steps: int, *, full: bool, own: bool) -> dict[str, Any] | None:
        """The trial of `edit` over `steps` steps, beside the run; None where it took too long."""
        self._say(f"trial of {edit}, {steps} steps")
        found = attempt(self.problem, self.recipe, edit, steps, self.held, self._patience())
        if found.get("status") == "cut":
            self._skip(f"No time for a trial of {edit}: it took longer than foretold.")
            return None
        return self._beside(edit, found, steps, full=full, own=own)

    def _beside(self, edit: Edit, found: Scores, steps: int, *, full: bool, own: bool) -> dict[str, Any]:
        """What a trial of `edit` reached, as shares of the way beside the run."""
        beside = compare(self.run, found, None if full else steps)
        if isinstance(edit, SetObjective) and self.problem.metric is None and "renewed" in found and full:
            beside = by_the_new(self.run, self.problem, self.recipe, edit, found, self.held)
        return found | beside | {"edit": str(edit), "full": full, "steps": steps, "longer": own}

    def _in_turn(self, suspects: list[Finding]) -> list[Finding]:
        """Suspicions in causal order; where not all can be tried, those first whose evidence is enough for a
        warning by itself.
        """
        scarce = self._cost(1.0) * len(suspects) > self.limit - time.monotonic()
        return sorted(suspects, key=lambda each: (scarce and each.severity == "info", rank_of(each)))

    def _lighter(self, edit: Edit) -> float:
        """Price of a step in that of the run's own, where `edit` changes how many examples it takes.

        It lies between their ratio and 1, depending on what a step costs beside its examples; the trial is
        cut off where it takes longer than foretold.
        """
        new = edit.changes.get("batch_size") if isinstance(edit, SetRecipe) else None
        size = self.problem.train_source.size
        old = self.recipe.batch_size if isinstance(self.recipe.batch_size, int) else size
        return math.sqrt(new / old) if isinstance(new, int) and old and new < old else 1.0

    def _full(self) -> int:
        """Steps of the whole run; a run that broke off had more before it."""
        if self.length is not None:
            return self.length
        steps = None if self.price is None else self.price.steps
        return steps if steps is not None else int(self.run.summary.get("steps") or 1)

    def _patience(self) -> float | None:
        """Seconds that one more trial may take, however long it was foretold to take."""
        left = self.limit - time.monotonic()
        return None if math.isinf(left) else max(left + _SPARE, 0.1)

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

    # -- the end ------------------------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """Ctrl-C: what was not measured by then has one reason, and no other."""
        run, reasons = self.run, dict[str, str](self.run.facts.get("not_measured") or {})
        steps = self.price.steps if self.price is not None else None
        broken_off(run, self.length or steps or total_steps(self.problem, self.recipe), self.doing)
        why: str = run.facts["unjudged"]["why"]
        for name, reason in reasons.items():
            if reason.startswith("not needed"):
                reasons[name] = why
        run.facts["not_measured"] = reasons | {"": why}

    def _reasons(self) -> None:
        """Why the rest was not measured, where nothing was in the way."""
        facts = self.run.facts
        reasons: dict[str, str] = facts.setdefault("not_measured", {})
        if late := facts.get("unjudged"):
            reasons.setdefault("references", late["why"])
        for name in ("references", "ground", "noise"):
            if name not in facts and not reasons.get(""):
                reasons.setdefault(name, "not needed: the run came far enough, or another cause explains it")
        if self.problem.objective is None:
            reasons.setdefault("objective", "the loss is the model's own")
        stopped = self.run.status == "failed"
        reasons.setdefault("", "no step was taken" if stopped else "an earlier cause explains the run")
        if facts.get("modules"):
            reasons.setdefault("saturated_fraction", "no activation with flat ends was called")
            reasons.setdefault("dead_fraction", "no rectifier was called")

    def _done(self, result: Diagnosis) -> Diagnosis:
        self._reasons()
        result = replace(result, not_checked=judge(self.run).not_checked)
        late = [f"No time to measure: {', '.join(self.late)}."] if self.late else []
        result.notes = [*result.notes, *dict.fromkeys(self.notes), *late]
        if result.interrupted:
            left = [name for name, why in result.not_checked if why == result.interrupted]
            words = result.interrupted[:1].upper() + result.interrupted[1:]
            result.notes.append(f"{words}; not judged: {counted.by_group(left) or 'nothing'}.")
        result.seconds = self.budget.spent
        _keep(result)
        return result


def _keep(result: Diagnosis) -> None:
    """What was measured and said goes to the run's folder, where there is one."""
    folder = result.run.folder
    if folder is None:
        return
    try:
        with (folder / "history.jsonl").open("a", encoding="utf-8") as lines:
            for name, value in result.run.facts.items():
                if name not in ("modules", "activations", "nonfinite"):
                    lines.write(json.dumps(encode("fact", name=name, value=plain(value))) + "\n")
        (folder / "diagnosis.json").write_text(result.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        result.notes.append(f"{folder} cannot be written: {error.strerror}")


def _own_length(edit: Edit) -> bool:
    """Whether an edit says itself how many steps a run has."""
    return isinstance(edit, SetRecipe) and bool({"epochs", "steps", "batch_size"} & set(edit.changes))
