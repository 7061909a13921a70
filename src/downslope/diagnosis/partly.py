"""A watched script of which only a part could be judged: it is not called healthy as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.symptom import registry

GROUPS = ("data", "output", "model", "step")
"""Groups whose symptoms can be seen from outside, without trials."""

SEEN = 0.4
"""Share of their symptoms that must have been judged for a whole picture. Convention: by a loss of
torch three in four are, by one that is not recognised half, of tensors updated by hand a quarter."""


def partly(run: Run, judged: Collection[str]) -> str:
    """Why a script without findings is not called healthy, in words; "" for one that was seen well enough.

    Args:
        run: The training that was judged.
        judged: Symptoms that are clear, or hold.
    """
    if "script" not in run.facts:
        return ""
    asked = [name for name, each in registry().items() if each.order[0] in GROUPS]
    few = sum(name in judged for name in asked) < SEEN * len(asked)
    if run.facts.get("rivals") or few:
        return "nothing wrong was seen in what could be judged"
    if (run.facts.get("constant") or {}).get("loss") is None and progress(run).share is None:
        known = "nothing wrong was seen in what could be judged"
        return f"{known}; whether it learnt enough is not known, as its loss is no one function that is known"
    trainings: Mapping[str, int] | Any = run.facts.get("trainings")
    if not trainings:
        return ""
    open_, lost, excused = trainings["open"], trainings["lost"], trainings["excused"]
    left = f"{open_} other{' was' if open_ == 1 else 's were'} not judged" if open_ else ""
    left += f", of which {lost} left the finite numbers" if lost else ""
    if excused:
        went = f"{excused} of its trainings went wrong by {'its' if excused == 1 else 'their'} settings"
        return "; ".join(filter(None, ["the best of a search is healthy", went, left]))
    one = trainings["of"] - open_ == 1
    judged = "training that was judged is" if one else "trainings that were judged are"
    return f"the {judged} healthy; {left}" if left else ""
