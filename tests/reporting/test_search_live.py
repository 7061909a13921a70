"""How far a search is, while its trials train one by one."""

from __future__ import annotations

import io
import math
from typing import Any

from rich.console import Console

from downslope.core.recipe import Recipe
from downslope.reporting.search_live import _table  # pyright: ignore[reportPrivateUsage]
from downslope.tuning.plan import planned
from downslope.tuning.standing import Standing
from downslope.tuning.trial import Trial
from tests.tuning.searches import LR, problem


def standing() -> Standing:
    found = Standing(planned(problem(), Recipe(steps=10), LR, **ASKED))
    found.trials = [Trial(i, {"lr": 0.1 + i / 10}, state="running") for i in range(5)]
    found.running = dict.fromkeys(range(5), (0, math.nan))
    return found


ASKED: dict[str, Any] = {
    "trials": 5, "seconds": None, "steps": None, "sampler": "random", "pruner": None, "seeds": 1, "batch": 32,
    "confirm": 0, "fresh": 2, "widen": False, "workers": 1, "ray": None, "seed": 0,
}  # fmt: skip


def drawn(of: Standing) -> str:
    page = io.StringIO()
    Console(width=100, file=page).print(_table(of))
    return page.getvalue()


def test_the_trials_that_were_heard_of_last_are_shown_with_their_values() -> None:
    now = standing()
    for number, step in ((0, 10), (1, 10), (2, 4)):
        now.heard(number, step, 0.5 - number / 10)
    shown = drawn(now)
    assert "0/5 trials, 5 under way" in shown
    assert [line.split() for line in shown.splitlines()[2:]] == [
        ["2", "0.3", "0.3", "step", "4"],
        ["1", "0.4", "0.2", "step", "10"],
        ["0", "0.5", "0.1", "step", "10"],
    ]
