"""An interrupt while a batch trains: its trials are given back, and what goes on is what would have been."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from downslope.core.recipe import Recipe
from downslope.tuning.standing import Standing
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials
from downslope.tuning.tune import resume
from tests.tuning.test_trials import ELSEWHERE
from tests.tuning.test_tune import LR, problem, search

EPOCHS = Recipe(optimizer="sgd", epochs=4, batch_size=12, seed=4)


@pytest.mark.parametrize("moment", ["before the first step", "on the way"])
@pytest.mark.parametrize("how", [{}, {"pruner": "median"}], ids=str)
def test_members_that_an_interrupt_stops_are_given_back_and_trained_again(
    tmp_path: Path, how: dict[str, Any], moment: str
) -> None:
    raised: list[int] = []

    def interrupt(standing: Standing) -> None:
        at = max((step for step, _ in standing.running.values()), default=-1)
        if standing.ended >= 4 and (at == 0 if moment == "before the first step" else at > 0) and not raised:
            raised.append(at)
            signal.raise_signal(signal.SIGINT)

    asked = {"batch": 4, "trials": 12} | how
    first = search(problem(), EPOCHS, LR, folder=tmp_path / "s", watch=interrupt, **asked)
    assert raised
    assert first.interrupted
    states = Counter(each.state for each in first.trials)
    assert states["waiting"] == states["given back"] > 0
    assert states["running"] == 0
    whole = search(problem(), EPOCHS, LR, folder=tmp_path / "w", **asked)
    rest = resume(tmp_path / "s", problem(), progress=False)
    counted = {tuple(each.values.items()): each.value for each in rest.trials if each.counts}
    assert len(counted) == 12
    assert counted.keys() == {tuple(each.values.items()) for each in whole.trials}
    if "pruner" not in how:  # which compares with what has come in, so the order counts
        wanted = {tuple(each.values.items()): each.value for each in whole.trials}
        assert counted == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("how", [{}, {"pruner": "halving"}], ids=str)
def test_who_ends_last_trains_what_a_dead_worker_of_another_machine_has_begun(
    tmp_path: Path, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.log"
    first = search(problem(), EPOCHS, LR, trials=4, storage=journal, folder=tmp_path / "a", **how)
    with open_storage(journal) as far:
        other = Trials(far, first.plan.asked, signature=first.plan.signature)
        monkeypatch.setattr(other._life, "worker", ELSEWHERE)
        other.begin([{"lr": 0.2}, {"lr": 0.3}])
    sign = tmp_path / "journal.log.life" / ELSEWHERE
    sign.parent.mkdir(exist_ok=True)
    sign.touch()
    monkeypatch.setattr("downslope.tuning.trials.time.sleep", lambda _: os.utime(sign, (0, 0)))
    found = search(problem(), EPOCHS, LR, trials=6, storage=journal, folder=tmp_path / "b", **how)
    states = Counter(each.state for each in found.trials)
    assert states["lost"] == 2
    assert states["done"] + states["pruned"] == 6
    assert {each.values["lr"] for each in found.trials if each.retry_of is not None} == {0.2, 0.3}
