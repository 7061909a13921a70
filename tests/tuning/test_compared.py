"""Trials that were ended on their way, beside those that came to their end."""

from __future__ import annotations

import pytest

from downslope.core.space import log
from downslope.reporting.searching import figures, section
from downslope.tuning.compared import compared, ranked
from downslope.tuning.confirmed import foremost
from downslope.tuning.crowd import Crowd
from downslope.tuning.trial import Trial
from downslope.tuning.tune import tune
from tests.tuning.searches import problem, sgd

SPACE = {"lr": log(1e-4, 0.5), "weight_decay": log(1e-6, 1e-1)}


def test_all_are_compared_at_the_last_step_that_all_reached():
    trials = [
        Trial(0, {"x": 1}, "done", 0.1, rungs={9: 0.1}),  # of a bracket whose first rung is the end
        Trial(1, {"x": 2}, "pruned", 0.6, rungs={1: 0.9, 3: 0.6}),
        Trial(2, {"x": 3}, "pruned", 0.8, rungs={1: 0.7, 3: 0.8}),
        Trial(3, {"x": 4}, "pruned", attrs={"diverged": True}),
        Trial(4, {"x": 5}, "pruned", 0.5, rungs={4: 0.5}),  # was not measured by then
    ]
    curves = {0: ((1, 2, 3, 9), (0.5, 0.3, 0.4, 0.1))}
    found, step = compared(trials, curves, "min")
    assert step == 3
    assert [(each.number, each.value) for each in found] == [(0, 0.3), (1, 0.6), (2, 0.7), (3, None)]
    assert compared(trials[:1], curves, "min") == (trials[:1], None)
    up, _ = compared(trials, curves, "max")
    assert [each.value for each in up] == [0.5, 0.9, 0.8, None]


def test_who_came_to_its_end_ranks_before_who_came_further_than_others():
    trials = [
        Trial(0, {}, "pruned", 0.1, rungs={1: 0.1}),
        Trial(1, {}, "pruned", 0.3, rungs={3: 0.3}),
        Trial(2, {}, "done", 0.4, rungs={9: 0.4}),
        Trial(3, {}, "pruned", 0.2, rungs={3: 0.2}),
    ]
    assert [each.number for each in ranked(trials, "min")] == [2, 3, 1, 0]
    assert [each.number for each in ranked(trials, "max")] == [2, 1, 3, 0]


def views(found):
    return {each.name: each for figure in figures(found) for each in figure.choices}


@pytest.fixture(scope="module")
def halved():
    return tune(
        problem(), sgd(epochs=9), SPACE, trials=27, pruner="halving", confirm=2, fresh=2, folder=False,
        progress=False,
    )  # fmt: skip


def test_pruned_trials_are_told_and_shown(halved):
    told = dict(halved.told())
    assert told["early"] == "24 of 27 ended early: 18 after 2 steps, 6 after 6 steps"
    assert "as of step 2, to which all came" in told["mattered"]
    assert {each.trials for each in halved.importances} == {27}
    assert "(72 of them to confirm the best)" in told["spent"]  # 2 with 2 seeds, 18 steps each
    for name in ("lr", "history"):
        (pale,) = [trace for trace in views(halved)[name].traces if trace["name"] == "ended early"]
        assert len(pale["x"]) == 24
    assert sum(at is None for at in views(halved)["curves"].traces[0]["x"]) == 24
    lines = [y for trace in views(halved)["parallel"].traces for y in trace["y"]]
    assert sum(y is None for y in lines) == 27
    assert "after 6 steps" in section(halved).body


@pytest.fixture(scope="module")
def bred():
    return tune(
        problem(), sgd(epochs=6), SPACE, trials=8, pruner="pbt", confirm=1, fresh=2, folder=False,
        progress=False,
    )  # fmt: skip


def test_members_that_became_others_are_shown_with_what_they_ended_with(bred):
    body = section(bred).body
    changed = [each for each in bred.done if len(each.attrs["schedule"]) > 1]
    assert changed
    assert " .. " in body
    shown = {x for trace in views(bred)["lr"].traces for x in trace["x"]}
    assert shown == {each.attrs["schedule"][-1]["lr"] for each in bred.done}
    bold = next(trace for trace in views(bred)["schedule of lr"].traces if trace["name"] == "the best")
    rows = next(each for each in bred.done if each.number == bred.best.number).attrs["schedule"]
    assert list(bold["y"]) == [row["lr"] for row in rows] + [rows[-1]["lr"]]
    kept = [each.get("schedule") for each in bred.to_dict()["trials"] if each["state"] == "done"]
    assert all(kept)


def test_the_value_of_a_member_is_its_best_since_it_became_another():
    crowd = Crowd(problem(), sgd(epochs=4))
    crowd.begin([{"lr": 0.2}, {"lr": 1e-4}])
    before, _ = crowd.train([0, 1], 2)
    crowd.become(1, 0, {"lr": 3.0})  # far too large
    (after,) = crowd.train([1], 3)
    assert after > before
    crowd.end()
    assert crowd.runs(1)[0].summary["valid_loss"] == pytest.approx(after, rel=1e-6)


def test_members_with_one_schedule_are_one_configuration():
    rows = [{"from": 0, "to": 2, "lr": 0.1}, {"from": 2, "to": 3, "lr": 0.2}]
    trials = [Trial(i, {"lr": float(i)}, "done", 0.5, attrs={"schedule": rows}) for i in range(2)]
    assert [each.number for each in foremost(trials, "min", 5)] == [0]
