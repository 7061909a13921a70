"""Trials: begun before they train, ended once, trained again when their worker is gone."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from downslope.core import space
from downslope.core.errors import StorageError
from downslope.tuning.storage import Storage, open_storage
from downslope.tuning.trial import Spent
from downslope.tuning.trials import Trials

SPACE = {
    "lr": space.log(1e-5, 1e-1),
    "momentum": space.one_minus(space.log(1e-3, 1e-1)),
    "optimizer": space.choice("sgd", "adam"),
    "model.width": space.integer(16, 512, log=True),
    "betas": space.choice((0.9, 0.999), (0.8, 0.99)),
}
POINT = {"lr": 0.01, "momentum": 0.9137, "optimizer": "adam", "model.width": 64, "betas": (0.8, 0.99)}
SIGNED: dict[str, Any] = {"problem": "digits", "metric": "accuracy", "seed": 0}


def places(folder: Path) -> dict[str, str | Path | None]:
    return {"journal": folder / "run", "sqlite": f"sqlite:///{folder}/runs.db", "memory": None}


@pytest.fixture(params=["journal", "sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    with open_storage(places(tmp_path)[request.param]) as opened:
        yield opened


def opened(storage: Storage, **more: Any) -> Trials:
    return Trials(storage, SPACE, **({"signature": SIGNED} | more))


def points(n: int) -> list[dict[str, Any]]:
    return [POINT | {"lr": 1e-4 * (i + 1)} for i in range(n)]


def test_a_configuration_is_recorded_as_running_before_it_trains_and_comes_back_to_the_bit(
    storage: Storage,
) -> None:
    trials = opened(storage)
    begun = trials.begin([POINT, POINT | {"momentum": 0.9990000000000001}], run="member-000")
    assert [each.values for each in trials.all()] == [POINT, POINT | {"momentum": 0.9990000000000001}]
    assert {each.state for each in trials.all()} == {"running"}
    assert [each.number for each in begun] == [0, 1]
    assert begun[0].attrs == {"run": "member-000"}


def test_a_key_whose_condition_does_not_hold_is_absent(storage: Storage) -> None:
    trials = opened(storage)
    sgd = {key: value for key, value in POINT.items() if key != "betas"}
    trials.begin([sgd])
    assert trials.all()[0].values == sgd


def test_each_way_to_end_is_told_apart(storage: Storage) -> None:
    trials = opened(storage)
    a, b, c, d = trials.begin(points(4))
    trials.rung(c, 10, 0.75)
    with trials.batch():
        assert trials.done(a, 0.5, seconds=1.5, steps=100, run="x")
        assert trials.failed(b, "out of memory", seconds=0.5)
        assert trials.pruned(c, 0.75, steps=10)
        assert trials.done(d, math.nan)
    found = trials.all()
    assert [each.state for each in found] == ["done", "failed", "pruned", "pruned"]
    assert [each.value for each in found] == [0.5, None, 0.75, None]
    assert found[0].attrs == {"seconds": 1.5, "steps": 100, "run": "x"}
    assert found[1].cause == "out of memory"
    assert found[2].rungs == {10: 0.75}
    assert found[3].cause == "diverged: its value is nan"


def test_what_was_spent_and_what_is_best_is_read_from_what_is_recorded(storage: Storage) -> None:
    trials = opened(storage, direction="maximize")
    batch = trials.begin(points(4))
    for each, value in zip(batch[:3], [0.5, 0.9, 0.7], strict=True):
        trials.done(each, value, seconds=0.1, steps=20)
    again = Trials(storage, SPACE, signature=SIGNED, direction="maximize")
    assert again.spent.trials == 4
    assert again.spent.seconds == pytest.approx(0.3)
    assert again.spent.steps == 60
    assert [(each.number, each.value) for each in again.all()[:3]] == [(0, 0.5), (1, 0.9), (2, 0.7)]


def test_an_interrupted_trial_waits_and_is_taken_without_using_up_its_retry(storage: Storage) -> None:
    trials = opened(storage)
    first, second = trials.begin(points(2), run="kept")
    trials.done(first, 0.5)
    assert [each.number for each in trials.give_back()] == [second.number]
    assert [(each.state, each.retry_of, each.losses) for each in trials.all()] == [
        ("done", None, 0),
        ("given back", None, 0),
        ("waiting", 1, 0),
    ]
    assert trials.spent.trials == 2
    taken = trials.take(5)
    assert [(each.number, each.values, each.attrs["run"]) for each in taken] == [(2, second.values, "kept")]
    assert trials.take(5) == []
    assert trials.done(taken[0], 0.25)
    assert trials.all()[2].value == 0.25


def test_a_late_word_of_a_trial_given_back_is_kept_while_nobody_trains_it(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    trials = opened(storage)
    early, late = trials.begin(points(2))
    trials.give_back()
    assert trials.done(early, 0.125)
    assert [each.state for each in trials.all()] == ["given back", "given back", "done", "waiting"]
    trials.take(1)
    with caplog.at_level(logging.WARNING, "downslope"):
        assert not trials.done(late, 0.25)
    assert "too late" in caplog.text
    assert trials.all()[3].state == "running"


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_worker_that_was_taken_for_dead_is_heard_unless_another_one_trains_in_its_place(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places(tmp_path)[kind]
    with open_storage(place) as asleep, open_storage(place) as awake:
        one, two = opened(asleep), opened(awake)
        early, late = one.begin(points(2))
        assert two.reap() == []
        monkeypatch.setattr(two._life, "dead", lambda worker: worker == one.worker)
        assert [each.number for each in two.reap()] == [0, 1]
        assert one.done(early, 0.5, seconds=2.0)
        assert [each.number for each in two.take(4)] == [3]
        assert not one.done(late, 0.25)
        assert two.done(two.all()[3], 0.125)
        for seen in (one, two):
            assert [(each.state, each.value) for each in seen.all()] == [
                ("lost", None),
                ("lost", None),
                ("done", 0.5),
                ("done", 0.125),
            ]
        assert one.spent == two.spent == Spent(trials=2, seconds=2.0, steps=0)


def test_a_trial_whose_worker_died_while_it_took_it_is_found_after_a_minute(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = opened(storage)
    trials.begin(points(1))
    trials.give_back()
    (waiting,) = trials.waiting()
    trials.storage.optuna.set_trial_state_values(waiting.key, optuna.trial.TrialState.RUNNING)
    now = [1000.0]
    monkeypatch.setattr("downslope.tuning.trials.time.monotonic", lambda: now[0])
    assert trials.reap() == []
    now[0] += 61
    assert [each.number for each in trials.reap()] == [1]
    assert [each.retry_of for each in trials.waiting()] == [1]


ELSEWHERE = "lynx~1234abcd~99.4242.1000.00ff00ff"


@pytest.mark.parametrize("fate", ["lives", "dies", "is done"])
def test_at_the_end_a_worker_of_another_machine_is_waited_for_until_its_fate_is_known(
    tmp_path: Path, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_storage(tmp_path) as storage, open_storage(tmp_path) as far:
        trials, other = opened(storage), opened(far)
        monkeypatch.setattr(other._life, "worker", ELSEWHERE)
        (theirs,) = other.begin(points(1))
        sign = tmp_path / "journal.log.life" / ELSEWHERE
        sign.touch()
        began = sign.stat().st_mtime
        looks: list[float] = []

        def passes(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                {
                    "lives": lambda: os.utime(sign, (began, began + 10)),
                    "dies": lambda: os.utime(sign, (began, began - 70)),
                    "is done": lambda: other.done(theirs, 0.5),
                }[fate]()

        monkeypatch.setattr("downslope.tuning.trials.time.sleep", passes)
        assert trials.settle() is (fate == "dies")
        assert len(looks) == 3
        assert trials.all()[0].state == {"lives": "running", "dies": "lost", "is done": "done"}[fate]


def test_at_the_end_nothing_is_waited_for_that_is_known(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = opened(storage)
    trials.begin(points(2))
    monkeypatch.setattr("downslope.tuning.trials.time.sleep", None)
    assert not trials.settle()
    trials.give_back()
    assert trials.settle()


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"signature": SIGNED | {"seed": 1}}, "its seed is 0, here it is 1"),
        ({"direction": "maximize"}, "its direction is minimize, here it is maximize"),
    ],
)
def test_the_storage_of_another_search_is_refused(
    tmp_path: Path, kind: str, change: dict[str, Any], told: str
) -> None:
    with open_storage(places(tmp_path)[kind]) as storage:
        opened(storage)
    with open_storage(places(tmp_path)[kind]) as storage, pytest.raises(StorageError, match=told):
        opened(storage, **change)


def test_another_space_is_told_by_the_dimension_that_differs(tmp_path: Path) -> None:
    with open_storage(tmp_path) as storage:
        opened(storage)
        with pytest.raises(StorageError, match=r"its space is lr log:1e-05:0\.1, here it is lr log:1e-05:1"):
            Trials(storage, SPACE | {"lr": space.log(1e-5, 1)}, signature=SIGNED)


def test_several_searches_share_a_storage_under_their_names(storage: Storage) -> None:
    sgd, adam = opened(storage, name="sgd"), opened(storage, name="adam", signature=SIGNED | {"seed": 7})
    sgd.done(sgd.begin(points(2))[1], 0.5)
    adam.done(adam.begin(points(1))[0], 0.25)
    assert [len(sgd.all()), len(adam.all())] == [2, 1]
    assert [sgd.spent.trials, adam.spent.trials] == [2, 1]
    assert [[each.value for each in of.all()] for of in (sgd, adam)] == [[None, 0.5], [0.25]]
