"""The ladder of learning rates: where it starts, how it goes on, and what is read off it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import downslope as ds
from downslope.core.fixed_sample import scored
from downslope.core.run import Run
from downslope.diagnosis.measure import rates
from downslope.diagnosis.rates import best_rate, own_rate, rates_tried
from tests.diagnosis.runs import problem, run

Curve = Callable[[float], float | None]


def ladder(monkeypatch: pytest.MonkeyPatch, made: Run, curve: Curve, **changes: Any) -> dict[str, Any]:
    """The measurement where the loss after a trial at rate lr is ``curve(lr)``."""
    task = problem(**changes)
    made.problem = task

    def attempt(p: Any, r: Any, edit: Any, steps: int, held: Any, seconds: float) -> dict[str, Any]:
        del p, r, steps, held, seconds
        return {"loss": curve(float(edit.changes["lr"])), "status": "done"}

    monkeypatch.setattr(rates, "attempt", attempt)
    assert made.recipe is not None
    found = rates.measure(made, task, made.recipe, scored(task), 100, time.monotonic() + 60)
    assert found is not None
    return found


def bowl(best: float, floor: float = 0.1) -> Curve:
    """A loss that grows by 0.5 with every decade away from the best rate, to 2.3 at most."""
    return lambda lr: min(2.3, floor + 0.5 * abs(math.log10(lr / best)))


def at(made: Run, lr: float, update: float | None = None) -> Run:
    assert made.recipe is not None
    made.recipe = made.recipe.edit(lr=lr)
    if update is not None:
        for step in (1, 2, 3):
            made.probes.log(step, "update_ratio", {"0": update, "2": update})
    return made


def test_far_beyond_the_stable_limit_half_the_limit_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # lr 0.1 at 1000 times the limit: the limit is 1e-4, half of it 5e-5.
    found = ladder(monkeypatch, run(sharpness={"ratio": 1000.0}), bowl(5e-5))
    assert found["tried"][0] == (pytest.approx(5e-5), pytest.approx(0.1))


def test_where_updates_are_far_too_small_the_rate_that_makes_them_usual_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Updates of 1e-9 of the weights at lr 1e-7: a thousandth of the weights takes lr 0.1.
    found = ladder(monkeypatch, at(run(), 1e-7, 1e-9), bowl(0.1))
    assert found["tried"][0] == (pytest.approx(0.1), pytest.approx(0.1))


@pytest.mark.parametrize(
    ("facts", "update"),
    [({}, None), ({"sharpness": {"ratio": 19.0}}, None), ({"sharpness": {"ratio": None}}, None),
     ({}, 2e-6), ({}, math.nan), ({}, 0.0)],
)  # fmt: skip
def test_near_what_is_usual_the_ladder_goes_by_decades(
    monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], update: float | None
) -> None:
    found = ladder(monkeypatch, at(run(**facts), 0.1, update), bowl(1e-3))
    lrs = [lr for lr, _ in found["tried"]]
    assert lrs == pytest.approx([0.01, 1.0, 1e-3, 10.0, 1e-4, 100.0, 1e-5, 3e-4, 3e-3])


def test_the_first_rate_gives_a_real_run_updates_of_a_usual_size() -> None:
    task, how = problem(), ds.Recipe(optimizer="sgd", lr=1e-6, steps=30, batch_size=20)
    slow = ds.fit(task, how, folder=False, progress=False, observe=0.9)
    slow.facts["constant"] = {"loss": math.log(2)}
    found = rates.measure(slow, task, how, scored(task), 5, math.inf)
    assert found is not None
    brisk = found["tried"][0][0]
    run = ds.fit(task, how.edit(lr=brisk, steps=3), folder=False, progress=False, observe=0.9)
    update = float(np.nanmedian(run.probes["update_ratio"].values))
    assert 3e-4 < update < 3e-3


def test_a_run_that_learns_gets_no_further_decade_on_a_side_that_does_worse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The recipe's own rate is the best: both neighbours do worse, and nothing beyond them is tried.
    found = ladder(monkeypatch, run(np.r_[2.3, np.full(199, 0.1)]), bowl(0.1))
    lrs = [lr for lr, _ in found["tried"]]
    assert lrs[:2] == pytest.approx([0.01, 1.0])
    assert not {1e-3, 10.0, 1e-4} & set(lrs)


def test_losses_of_a_maximised_objective_are_negated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(np.full(200, -2.3), constant=-2.3)
    found = ladder(monkeypatch, made, lambda lr: -(bowl(1e-3)(lr) or 0.0), maximize=True)
    assert found["start"] == pytest.approx(2.3)
    assert found["control"] == pytest.approx(2.3)
    assert min(found["tried"], key=lambda row: row[1])[0] == pytest.approx(1e-3)
    assert best_rate(Run(facts={"rates": found}), "lower") == pytest.approx(1e-3)


def test_a_rate_that_leaves_the_numbers_is_kept_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ladder(monkeypatch, run(), lambda lr: None if lr > 0.1 else 2.0)
    assert dict(found["tried"])[1.0] is None
    assert best_rate(Run(facts={"rates": found}), "higher") is None


def test_no_time_means_no_trials() -> None:
    task = problem()
    found = rates.measure(run(), task, ds.Recipe(optimizer="sgd", lr=0.1), scored(task), 10, 0.0)
    assert found is not None
    assert found["tried"] == []
    assert not rates_tried(Run(facts={"rates": found}))


def table(*tried: tuple[float, float | None], control: float | None = 2.0) -> Run:
    """Trials beside a recipe at lr 0.1 that came from 2.3 to `control`."""
    return Run(facts={"rates": {"lr": 0.1, "control": control, "start": 2.3, "tried": list(tried)}})


def test_the_best_rate_is_sought_on_the_side_that_is_asked_for() -> None:
    made = table((0.01, 0.5), (1.0, 0.2))
    assert best_rate(made, "lower") == 0.01
    assert best_rate(made, "higher") == 1.0


def test_a_smaller_rate_that_does_nearly_as_well_is_taken() -> None:
    # From 2.3 down to 0.3 the best goes 2.0; 1.85 is 92 % of it, 1.7 only 85 %.
    assert best_rate(table((0.001, 0.6), (0.01, 0.45), (0.03, 0.3)), "lower") == 0.01
    assert best_rate(table((0.001, 0.6), (0.01, 0.55), (0.03, 0.3)), "lower") == 0.03


def test_a_rate_must_win_a_twentieth_of_the_way() -> None:
    # The way is 2.3 - 0.3 = 2.0, a twentieth of it 0.1.
    assert best_rate(table((0.01, 0.25), control=0.3), "lower") is None
    assert best_rate(table((0.01, 0.15), control=0.3), "lower") == 0.01


def test_a_control_that_was_lost_counts_as_standing_at_the_start() -> None:
    assert best_rate(table((0.01, 0.5), control=None), "lower") == 0.01
    assert best_rate(table((0.01, 2.4), control=None), "lower") is None


def test_a_rate_above_the_start_is_no_remedy_for_a_control_that_rose() -> None:
    assert best_rate(table((0.01, 2.5), control=9.0), "lower") is None


def test_without_trials_there_is_no_best_rate() -> None:
    assert best_rate(Run(), "lower") is None
    assert best_rate(table(), "lower") is None
    assert not rates_tried(Run())
    assert rates_tried(table((0.01, None)))


def test_the_rate_of_a_watched_run_is_the_first_that_was_seen() -> None:
    watched = Run()
    assert own_rate(watched) is None
    watched.history.extend("lr", [1, 2, 3], [0.5, 0.4, 0.3])
    assert own_rate(watched) == 0.5
    assert own_rate(run()) == 0.1
