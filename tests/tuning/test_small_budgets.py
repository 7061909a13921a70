"""Budgets of a few trials: all of one is used, and what is left out is told with its reason."""

from __future__ import annotations

import pytest

from downslope.core.space import log
from downslope.training.price import Price
from downslope.tuning import price
from downslope.tuning.allowance import share_of
from downslope.tuning.plan import planned
from downslope.tuning.tune import tune
from tests.tuning.searches import LR, problem, sgd

ASKED = {
    "trials": None, "seconds": None, "steps": None, "sampler": "random", "pruner": None, "seeds": 1,
    "batch": None, "confirm": 3, "fresh": 5, "widen": False, "workers": 1, "ray": None, "seed": 0,
}  # fmt: skip


def test_nothing_is_kept_for_a_confirmation_that_it_would_not_hold():
    assert share_of(4000, 1000, confirm=3) == 1.0
    assert share_of(10_000, 1000, confirm=3) == 0.8
    assert share_of(10_000, 1000, confirm=0) == 1.0


def test_steps_that_hold_no_confirmation_go_to_the_search_and_it_says_so():
    found = tune(problem(), sgd(epochs=5), LR, steps=40, folder=False, progress=False)  # 10 steps a trial
    assert len(found.done) == 4
    assert found.steps == 40
    assert dict(found.told())["best"].endswith(
        "not confirmed: the budget of 40 steps left no two runs for it"
    )
    found = tune(problem(), sgd(epochs=5), LR, trials=1, confirm=0, folder=False, progress=False)
    assert dict(found.told())["best"].endswith("not confirmed, as confirm=0 asks")


def test_the_first_batch_of_a_time_takes_a_quarter_of_it_as_reckoned(monkeypatch):
    begun = []

    class ToldError(Exception):
        pass

    def train(problem, recipe, configurations, **more):
        begun.append(len(configurations))
        raise ToldError

    monkeypatch.setattr("downslope.tuning.hunt.train", train)
    monkeypatch.setattr("downslope.tuning.price.price", lambda *given: Price(10, 100.0, 0.0, 5))
    with pytest.raises(ToldError):  # 1000 s each, 32 would be reckoned to fit
        tune(problem(), sgd(epochs=5), LR, seconds=40_000.0, folder=False, progress=False)
    assert begun == [7]


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        ({"trials": 64}, 15),
        ({"trials": 2}, 10),
        ({"steps": 100}, 2),  # 8 trials of 10 steps
        ({"steps": 40}, 0),
        ({"seconds": 100.0}, 2),
    ],
)
def test_as_many_runs_of_confirmation_are_announced_as_can_follow(monkeypatch, asked, runs):
    monkeypatch.setattr(price, "price", lambda *given: Price(10, 1.0, 0.0, 5))
    found = price.priced(planned(problem(), sgd(epochs=5), {"lr": log(1e-4, 0.5)}, **ASKED | asked))
    assert found.confirming == runs
    assert (f"then up to {runs} runs to confirm" in str(found)) == bool(runs)
