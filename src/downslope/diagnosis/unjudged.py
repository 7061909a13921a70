"""What a diagnosis did not come to: Ctrl-C ended it, or its budget did. Nothing of that may be called clear.

``facts["unjudged"]`` says why: ``why`` in words, ``interrupted`` for Ctrl-C, ``running`` where that fell into
the run itself, whose first steps then say nothing of its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.early import thrown
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered
from downslope.diagnosis.symptom import registry

BY_THE_END = (
    "unscaled-inputs", "unscaled-targets", "init-scale", "vanishing-gradient", "exploding-gradient",
    "dead-units", "saturated-units", "long-term-dependency",
)  # fmt: skip
"""Symptoms of data and model that are blamed for how a run ended: of one that has hardly begun they are told,
and blamed for nothing. So are all of step, terrain and generalisation."""

LATE = ("step", "terrain", "generalisation")
"""Groups of symptoms that show in how a run goes on and ends, and are settled by trials."""

CERTAIN = ("stale-gradients",)
"""Facts that hold after two steps as after a million, whatever group they are of."""

NO_TIME = "the time ended before it could be tried"

HALF = 0.5
"""Share of the way to what is reachable under which a run that could not be examined is not called healthy:
one that comes further may be no more than slow, or noisy. Convention."""

Pairs = list[tuple[str, str]]


def by_the_end(name: str) -> bool:
    """Whether a symptom is blamed for how a run went on and ended."""
    return name in BY_THE_END or (registry()[name].order[0] in LATE and name not in CERTAIN)


def out_of_time(run: Run) -> None:
    """Note that the budget left something out that would have decided."""
    run.facts.setdefault("unjudged", {"why": NO_TIME, "interrupted": False, "running": False})


def broken_off(run: Run, planned: int | None, doing: str) -> str:
    """Note that Ctrl-C ended the diagnosis, and give its words: "after 23 of 400 steps".

    Args:
        run: Its status says whether it came to its own end.
        planned: Steps of the whole run, where known.
        doing: What was being done.
    """
    if run.status in ("running", "interrupted"):
        taken = int(run.summary.get("steps") or 0)
        where, run.status = f"after {taken} of {planned or 'an unknown number of'} steps", "interrupted"
    else:
        where = f"after the run, at: {doing}"
    said = {"why": f"interrupted {where}", "interrupted": True, "running": run.status == "interrupted"}
    run.facts["unjudged"] = said
    return where


def interrupted(run: Run) -> str:
    """Where Ctrl-C ended the diagnosis; "" where it did not, or where the run was taken up again."""
    said: Mapping[str, Any] = run.facts.get("unjudged") or {}
    resumed = said.get("running") and run.status != "interrupted"
    return str(said["why"]) if said.get("interrupted") and not resumed else ""


def halted(run: Run) -> bool:
    """Whether Ctrl-C ended the run itself before anything beyond doubt happened to it."""
    said: Mapping[str, Any] = run.facts.get("unjudged") or {}
    held = bool(interrupted(run)) and bool(said.get("running"))
    return held and not progress(run).diverged and not thrown(run)


def unknown(run: Run) -> bool:
    """Whether something came much further than the run, and the budget ended before it could be said why."""
    said: Mapping[str, Any] = run.facts.get("unjudged") or {}
    if not said or said.get("interrupted") or answered(run):
        return False
    how = progress(run)
    if how.reachable is None or how.share is None or not how.ended_far:
        return False
    return how.share < HALF


def unheard(run: Run) -> bool:
    """Whether somebody's own loop took steps and handed over no loss of any: how far it came is not known."""
    watched = run.problem is None and run.recipe is None and "script" not in run.facts
    return watched and bool(run.summary.get("steps")) and not len(run.history.series("train_loss").steps)


def withdraw(run: Run, cleared: Pairs) -> tuple[Pairs, Pairs]:
    """What stays clear, and what was cleared only because nobody came to try it, with the reason.

    A run that came far enough needed no trial, and one whose cause is proved needs no further one.
    """
    said: Mapping[str, Any] = run.facts.get("unjudged") or {}
    broken = interrupted(run)
    how = progress(run)
    if not said or (said.get("interrupted") and not broken) or answered(run):
        return cleared, []
    if (how.solved and run.status != "interrupted") or (
        not broken and not how.ended_far and not how.standing
    ):
        return cleared, []
    stay = [each for each in cleared if not by_the_end(each[0])]
    return stay, [(name, str(said["why"])) for name, _ in cleared if by_the_end(name)]
