"""Rules that end a member as it reports, traced by hand."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from downslope.core.errors import InputError
from downslope.tuning.stopping_rule import StopBelowMedian, StopHalving, rule_of


def stopped(rule, curves: np.ndarray, order: list[int], units: list[int]) -> list[int]:
    """Members that the rule ends, if those that are left report in this order at each time."""
    ended: list[int] = []
    for place, at in enumerate(units):
        for member in order:
            if member not in ended and rule(member, at, float(curves[member, place])):
                ended.append(member)
    return ended


def test_halving_by_stopping_hangs_on_the_order() -> None:
    curves = np.arange(27.0)[:, None] + np.zeros((27, 1))
    assert stopped(StopHalving(most=3), curves, list(range(27)), [1]) == list(range(1, 3)) + [
        member for member in range(3, 27) if member >= (member + 1) // 3
    ]
    assert stopped(StopHalving(most=3), curves, list(range(27))[::-1], [1]) == []


@pytest.mark.parametrize("eta", [2, 3, 4])
def test_each_is_ended_where_optuna_ends_it(eta: int) -> None:
    """Its `SuccessiveHalvingPruner`, told the same losses in the same order."""
    for seed in range(4):
        draw = np.random.default_rng((eta, seed))
        rule = StopHalving(most=eta**3, eta=eta)
        pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=eta)
        study = optuna.create_study(pruner=pruner)
        going = {trial.number: (trial, 0) for trial in (study.ask() for _ in range(30))}
        while going:
            number = int(draw.choice(list(going)))
            trial, rung = going.pop(number)
            loss, units = float(draw.random()), eta**rung
            trial.report(loss, units)
            ended = rule(number, units, loss)
            assert ended == trial.should_prune(), (number, units)
            if not ended and rung < 2:
                going[number] = trial, rung + 1


def test_the_best_at_a_rung_is_never_ended() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        curves = rng.normal(size=(20, 1)) + np.array([[3.0, 2.0, 1.0]])
        order = rng.permutation(20).tolist()
        assert int(curves[:, 0].argmin()) not in stopped(StopHalving(most=9), curves, order, [1, 3, 9])


def test_at_the_end_of_a_run_nobody_is_ended() -> None:
    rule = StopHalving(most=4, least=2, eta=2)
    assert not rule(0, 2, 1.0)
    assert not rule(0, 4, 9.0)
    assert not rule(1, 2, 0.5)
    assert not rule(1, 4, 99.0)


def test_a_report_past_a_rung_is_compared_at_it_once() -> None:
    rule = StopHalving(most=9)
    assert not rule(0, 2, 1.0)  # rung 1, best so far
    assert not rule(0, 2, 5.0)  # already compared there
    assert rule(1, 2, 2.0)


@pytest.mark.parametrize("rule", [StopHalving(most=9), StopBelowMedian()])
def test_what_is_not_finite_ends_at_once(rule) -> None:
    assert rule(0, 1, math.nan)


def test_the_median_rule_by_hand() -> None:
    rule = StopBelowMedian(others=3)
    for member, level in enumerate((1.0, 2.0, 3.0)):
        for at in (1, 2):
            rule(member, at, level / at)
    assert not rule(3, 1, 2.0)  # the median of 1, 2, 3 is 2: not worse
    assert not rule(3, 2, 1.5)  # its best is 1.5; the means up to 2 are .75, 1.5, 2.25
    assert rule(4, 1, 2.1)
    assert rule(5, 2, 1.8)  # the fourth mean is 1.75, and the median of all 1.625


def test_the_median_rule_waits_for_others_and_for_its_warmup() -> None:
    rule = StopBelowMedian(warmup=1, others=2)
    assert not rule(0, 1, 1.0)
    assert not rule(1, 1, 1.0)
    assert not rule(2, 1, 9.0)
    assert not rule(0, 2, 1.0)
    assert not rule(2, 2, 9.0)
    assert not rule(1, 2, 1.0)
    assert rule(2, 3, 9.0) is False  # nobody else has got there
    rule(0, 4, 1.0)
    rule(1, 4, 1.0)
    assert rule(2, 4, 9.0)


def test_names_of_rules() -> None:
    assert isinstance(rule_of("median", 100), StopBelowMedian)
    assert isinstance(rule_of("stop-halving", 100), StopHalving)
    with pytest.raises(InputError, match=r"'mean'.*median"):
        rule_of("mean", 100)
