"""Successive halving on members with known curves: what it keeps and costs, how often it loses the best."""

from __future__ import annotations

import math

import numpy as np
import pytest

from downslope.core.errors import InputError
from downslope.tuning.bounds import beaten, budget_needed, dropped_at_most, karnin
from downslope.tuning.halving import Halving, climb
from downslope.tuning.rungs import Ladder
from tests.tuning.curves import Curves, limits

SEEDS = 600


def allowance(bound: float, seeds: int = SEEDS) -> float:
    """Bound plus three standard errors of a share among so many seeds."""
    return bound + 3 * math.sqrt(max(bound * (1 - bound), 1 / seeds) / seeds)


def test_rungs_are_geometric_and_end_at_most() -> None:
    assert Halving(most=27, least=1, eta=3).plan(27) == [(27, 1), (9, 3), (3, 9), (1, 27)]
    assert Halving(most=20, least=2, eta=4).plan(10) == [(10, 2), (2, 8), (1, 20)]
    assert Halving(most=5, least=5).plan(4) == [(4, 5)]


def test_the_better_third_goes_on_at_each_rung_and_only_they_train() -> None:
    curves = Curves(lambda member, units: (member * 7) % 27 + 1 / units)
    found = Halving(most=27).run(curves.train, curves.ask, 27)
    order = sorted(range(27), key=lambda member: (member * 7) % 27)
    assert [set(rung.members) for rung in found.rungs] == [
        set(order), set(order[:9]), set(order[:3]), set(order[:1])
    ]  # fmt: skip
    assert found.best == order[0]
    assert curves.spent == found.units == Halving(most=27).cost(27) == 27 + 9 * 2 + 3 * 6 + 18


def test_the_outcome_does_not_hang_on_the_order_of_the_members() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(27, 4))
    place, plan = {1: 0, 3: 1, 9: 2, 27: 3}, Halving(most=27).plan(27)
    outcomes = set()
    for _ in range(20):
        order = rng.permutation(27).tolist()
        rungs = climb(
            lambda members, units: [values[m, place[units]] for m in members],
            order,
            plan,
        )
        outcomes.add(tuple(frozenset(rung.kept) for rung in rungs))
    assert len(outcomes) == 1


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_comes_last_and_never_goes_on(broken: float) -> None:
    curves = Curves(lambda member, units: broken if member < 7 else 1.0 + member)
    found = Halving(most=9).run(curves.train, curves.ask, 9)
    assert found.rungs[0].kept == (7, 8)
    assert found.best == 7
    assert max(curves.had[member] for member in range(7)) == 1


def test_all_broken_ends_at_the_first_rung_without_a_best() -> None:
    curves = Curves(lambda member, units: math.nan)
    found = Halving(most=81).run(curves.train, curves.ask, 27)
    assert len(found.rungs) == 1
    assert found.best is None
    assert curves.spent == 27


def test_best_is_by_most_training_and_not_by_the_smallest_loss_of_all() -> None:
    found = Halving(most=3).run(*_of(lambda member, units: member + units))
    assert found.best == 0
    assert isinstance(found, Ladder)
    assert found.reached == {0: (3, 3.0), 1: (1, 2.0), 2: (1, 3.0)}


def _of(curve):
    curves = Curves(curve)
    return curves.train, curves.ask, 3


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"most": 0}, "most=0"),
        ({"most": 9, "least": 10}, "least=10 with most=9"),
        ({"most": 9, "eta": 1}, "eta=1"),
        ({"most": 9.5}, "most=9.5"),
    ],
)
def test_rungs_that_cannot_be_are_refused_in_one_line(given: dict, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        Halving(**given)
    assert "\n" not in str(error.value)


def test_a_budget_that_begins_fewer_plans_for_those() -> None:
    curves = Curves(lambda member, units: float(member))
    assert Halving(most=9).run(curves.train, lambda n: curves.ask(9), 27).rungs[1].members == (0, 1, 2)
    assert Halving(most=9).run(curves.train, lambda n: [], 27).rungs == ()


def test_one_value_for_each_member_is_asked_for() -> None:
    with pytest.raises(InputError, match="2 values for 3 members"):
        Halving(most=3).run(lambda members, units: [0.0, 1.0], range, 3)


# -- theory ------------------------------------------------------------------------------------------------


def drops(plan, make, n: int) -> float:
    """Share of `SEEDS` in which the member of the smallest limit does not win."""
    lost = 0
    for seed in range(SEEDS):
        known, train = make(seed, n)
        rungs = climb(train, list(range(n)), plan)
        lost += rungs[-1].kept != (int(np.argmin(known)),)
    return lost / SEEDS


def parallel(seed: int, n: int):
    """Curves that never cross: all fall by the same amounts."""
    known = limits(n, seed)
    return known, lambda members, units: [known[m] + 1 / units for m in members]


def crossing(width: float):
    """Curves within ``width / units`` of their limits, on either side: the best may look worst early."""

    def make(seed: int, n: int):
        known = limits(n, seed)
        side = np.random.default_rng((5, seed)).uniform(-1, 1, n)
        side[np.argmin(known)] = 1.0  # the best comes late
        return known, lambda members, units: [known[m] + width * side[m] / units for m in members]

    return make


def noisy(scale: float, width: float = 0.0):
    """Crossing curves seen with Gaussian noise that is drawn anew at each rung."""

    def make(seed: int, n: int):
        known, curve = crossing(width)(seed, n)
        draw = np.random.default_rng((3, seed))
        return known, lambda members, units: (
            np.asarray(curve(members, units)) + draw.normal(0, scale / math.sqrt(units), len(members))
        ).tolist()

    return make


def bound_over_seeds(plan, n: int, *, width: float = 0.0, scale: float = 0.0) -> float:
    return float(np.mean([
        dropped_at_most(
            limits(n, seed).tolist(), plan, envelope=lambda u: width / u, noise=lambda u: scale / math.sqrt(u)
        )
        for seed in range(SEEDS)
    ]))  # fmt: skip


@pytest.mark.parametrize(("eta", "n"), [(2, 16), (3, 27), (4, 20)])
def test_curves_that_do_not_cross_never_lose_the_best(eta: int, n: int) -> None:
    plan = Halving(most=64, eta=eta).plan(n)
    assert bound_over_seeds(plan, n) == 0.0
    assert drops(plan, parallel, n) == 0.0


@pytest.mark.parametrize(("eta", "width"), [(2, 0.05), (3, 0.05), (3, 0.3), (3, 2.0)])
def test_crossing_curves_lose_the_best_only_where_theory_allows_it(eta: int, width: float) -> None:
    plan, n = Halving(most=81, eta=eta).plan(27), 27
    sure = lost = sure_and_lost = 0
    for seed in range(SEEDS):
        known, train = crossing(width)(seed, n)
        certain = dropped_at_most(known.tolist(), plan, envelope=lambda u: width / u) == 0.0
        gone = climb(train, list(range(n)), plan)[-1].kept != (int(np.argmin(known)),)
        sure, lost, sure_and_lost = sure + certain, lost + gone, sure_and_lost + (certain and gone)
    assert sure_and_lost == 0
    if width == 2.0:  # where theory promises nothing, it does get lost
        assert sure == 0
        assert lost > SEEDS / 2
    if width == 0.05:
        assert sure > SEEDS / 2


@pytest.mark.parametrize(
    ("eta", "scale", "width"), [(2, 0.1, 0.0), (3, 0.05, 0.0), (3, 0.1, 0.05), (3, 0.3, 0.0), (4, 0.05, 0.1)]
)
def test_noisy_curves_lose_the_best_no_more_often_than_the_bound(
    eta: int, scale: float, width: float
) -> None:
    plan = Halving(most=81, eta=eta).plan(27)
    bound = bound_over_seeds(plan, 27, width=width, scale=scale)
    share = drops(plan, noisy(scale, width), 27)
    assert share <= allowance(bound), f"{share} of the seeds, theory allows {bound}"


def test_sequential_halving_keeps_to_the_bound_of_karnin_koren_and_somekh() -> None:
    n, per_round = 8, 6000
    rounds = int(math.log2(n))
    known = np.array([0.35, 0.45, 0.5, 0.55, 0.6, 0.7, 0.75, 0.8])
    plan = [(n >> k, k + 1) for k in range(rounds)]
    draws = {k + 1: per_round // (n >> k) for k in range(rounds)}
    budget = rounds * per_round
    lost = 0
    for seed in range(SEEDS):
        draw = np.random.default_rng((9, seed))
        rungs = climb(
            lambda members, units, draw=draw: [
                draw.binomial(draws[units], known[m]) / draws[units] for m in members
            ],
            list(range(n)),
            plan,
        )
        lost += rungs[-1].kept != (0,)
    bound = karnin(known.tolist(), budget)
    assert 0.0 < bound < 1.0
    assert lost / SEEDS <= allowance(bound)


@pytest.mark.parametrize("width", [0.05, 0.2])
def test_a_budget_above_that_of_jamieson_and_talwalkar_always_keeps_the_best(width: float) -> None:
    n = 16
    rounds = math.ceil(math.log2(n))
    for seed in range(SEEDS):
        known, train = crossing(width)(seed, n)
        budget = math.floor(budget_needed(known.tolist(), lambda loss: width / loss)) + 1
        plan, units = [], 0
        for k in range(rounds):
            units += budget // ((n >> k) * rounds)
            plan.append((n >> k, units))
        rungs = climb(train, list(range(n)), plan)
        assert rungs[-1].kept == (int(np.argmin(known)),)


def test_the_chance_of_one_pair_covers_what_normal_noise_does() -> None:
    for gap, noise in ((0.1, 0.05), (0.2, 0.2), (0.5, 0.1)):
        exact = 0.5 * math.erfc(gap / (2 * noise))  # the difference of two has the variance 2 noise**2
        assert exact <= beaten(gap, 0.0, noise) <= 1.0
    assert beaten(0.3, 0.2, 0.1) == 1.0
    assert beaten(0.3, 0.1, 0.0) == 0.0


def test_the_bound_wants_one_best_of_several() -> None:
    with pytest.raises(InputError, match="one best"):
        dropped_at_most([0.1, 0.1, 0.5], [(3, 1)])
