"""Population-based training: the paper's toy problem, and what exploit, explore and schedule promise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from downslope.core.errors import InputError
from downslope.core.space import choice, integer, log, one_minus, uniform
from downslope.tuning.population_based import Bred, PopulationBased
from downslope.tuning.rungs import Ladder, Rung
from downslope.tuning.schedule import Change, Schedule

SEEDS = 100


class Toy:
    """Jaderberg et al. 2017, figure 2: two members climb ``Q = 1.2 - a**2 - b**2`` from (0.9, 0.9).

    They see only the surrogate ``1.2 - h0 a**2 - h1 b**2``, one with h = (1, 0), the other with h = (0, 1):
    neither gets anywhere alone. What is trained is the loss ``-Q``.
    """

    def __init__(self, begin: Sequence[tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))) -> None:
        self.h = [dict(zip(("h0", "h1"), each, strict=True)) for each in begin]
        self.theta = [np.array([0.9, 0.9]) for _ in begin]
        self.had = [0] * len(begin)
        self.over: set[int] = set()

    def ask(self, n: int) -> list[int]:
        return list(range(min(n, len(self.h))))

    def values(self, member: int) -> Mapping[str, Any]:
        return self.h[member]

    def train(self, members: Sequence[int], units: int) -> list[float]:
        for member in members:
            for _ in range(units - self.had[member]):
                slope = 2 * np.array([self.h[member]["h0"], self.h[member]["h1"]]) * self.theta[member]
                self.theta[member] = self.theta[member] - 0.01 * slope
            self.had[member] = units
        return [float((self.theta[member] ** 2).sum() - 1.2) for member in members]

    def goes_on(self, member: int) -> bool:
        return member not in self.over

    def become(self, member: int, source: int, values: Mapping[str, Any]) -> None:
        self.theta[member] = self.theta[source].copy()
        self.h[member] = dict(values)


SPACE = {"h0": uniform(0, 1), "h1": uniform(0, 1)}


def quality(found) -> float:
    return -min(found.ladder.rungs[-1].values)


def test_the_toy_problem_of_the_paper_is_solved_and_a_grid_without_exploiting_is_stuck() -> None:
    grid = PopulationBased(space=SPACE, most=200, every=10, share=0).run(Toy(), 2)
    assert quality(grid) == pytest.approx(1.2 - 0.81 - (0.9 * 0.98**200) ** 2)  # one of both stays at 0.9
    reached = [
        quality(PopulationBased(space=SPACE, most=200, every=10, seed=seed).run(Toy(), 2))
        for seed in range(SEEDS)
    ]
    assert min(reached) > quality(grid)
    assert np.median(reached) > 1.1


def test_exploiting_without_exploring_is_stuck_too() -> None:
    """Where weights and hyper-parameters are copied and nothing moves, both members follow one direction."""
    found = PopulationBased(space=SPACE, most=200, every=10, factors=(1.0,), shift=0, resample=0).run(
        Toy(), 2
    )
    assert quality(found) < 0.4


def test_the_schedule_that_it_found_gives_the_winner_again_without_search() -> None:
    for seed in range(5):
        toy = Toy()
        found = PopulationBased(space=SPACE, most=200, every=10, seed=seed).run(toy, 2)
        again = Toy()
        loss = found.schedule().replay(again)
        assert loss == min(found.ladder.rungs[-1].values)
        assert again.theta[0].tolist() == toy.theta[found.best].tolist()


def test_a_schedule_goes_back_through_all_that_its_member_descends_from() -> None:
    changes = [
        Change(2, 0, 1, {"lr": 2.0}), Change(4, 2, 0, {"lr": 3.0}), Change(6, 0, 3, {"lr": 9.0}),
        Change(8, 1, 2, {"lr": 4.0}),
    ]  # fmt: skip
    last = Rung(10, (0, 1, 2, 3), (4.0, 1.0, 2.0, 3.0), (1,))
    found = Bred(Ladder((last,)), {i: {"lr": i / 10} for i in range(4)}, tuple(changes))
    assert found.schedule().pieces == ((0, {"lr": 0.1}), (2, {"lr": 2.0}), (4, {"lr": 3.0}), (8, {"lr": 4.0}))
    assert found.schedule(3).pieces == ((0, {"lr": 0.3}),)


def test_a_schedule_is_a_table_and_back() -> None:
    found = Schedule(((0, {"lr": 0.1, "momentum": 0.9}), (3, {"lr": 0.1, "momentum": 0.8})), 10)
    rows = json.loads(json.dumps(found.table()))
    assert rows == [
        {"from": 0, "to": 3, "lr": 0.1, "momentum": 0.9}, {"from": 3, "to": 10, "lr": 0.1, "momentum": 0.8}
    ]  # fmt: skip
    assert Schedule.of_table(rows) == found
    assert found.at(2)["momentum"] == 0.9
    assert found.at(3)["momentum"] == 0.8
    assert found.series("lr") == [(0, 0.1)]
    assert found.series("momentum") == [(0, 0.9), (3, 0.8)]


@pytest.mark.parametrize("begins", [[], [1], [0, 0], [0, 5, 3], [0, 10]])
def test_stairs_that_do_not_rise_are_refused(begins: list[int]) -> None:
    with pytest.raises(InputError, match="begin at 0 and rise"):
        Schedule(tuple((at, {}) for at in begins), 10)


class Still:
    """Members with the losses given, which do not train; who becomes whom is noted."""

    def __init__(self, losses: Sequence[float], values: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.losses, self.own = list(losses), list(values or [{"lr": 0.1}] * len(losses))
        self.calls: list[tuple[int, ...]] = []
        self.over: set[int] = set()

    def ask(self, n: int) -> list[int]:
        return list(range(n))

    def values(self, member: int) -> Mapping[str, Any]:
        return self.own[member]

    def train(self, members: Sequence[int], units: int) -> list[float]:
        self.calls.append(tuple(members))
        return [self.losses[member] for member in members]

    def goes_on(self, member: int) -> bool:
        return member not in self.over

    def become(self, member: int, source: int, values: Mapping[str, Any]) -> None:
        self.losses[member], self.own[member] = self.losses[source], values


def test_the_worst_fifth_becomes_the_best_fifth_and_nobody_else_changes() -> None:
    members = Still([float(i) for i in range(10)])
    found = PopulationBased(space={"lr": log(1e-4, 1)}, most=2).run(members, 10)
    assert {change.member for change in found.changes} == {8, 9}
    assert {change.source for change in found.changes} <= {0, 1}
    assert found.changes[0].units == 1
    assert members.calls == [tuple(range(10))] * 2


def test_what_is_not_finite_is_replaced_even_above_its_share_and_never_copied() -> None:
    members = Still([math.nan, 1.0, math.inf, 3.0, math.nan])
    found = PopulationBased(space={"lr": log(1e-4, 1)}, most=2).run(members, 5)
    assert {change.member for change in found.changes} == {0, 2, 4}
    assert {change.source for change in found.changes} == {1}


def test_who_has_come_to_its_end_is_left_alone() -> None:
    members = Still([1.0, 2.0, 3.0, math.nan, 4.0])
    members.over = {3, 4}
    assert PopulationBased(space={"lr": log(1e-4, 1)}, most=2).run(members, 5).changes == ()


def test_all_broken_ends_at_the_first_look() -> None:
    members = Still([math.nan] * 4)
    found = PopulationBased(space={"lr": log(1e-4, 1)}, most=5).run(members, 4)
    assert found.best is None
    assert len(members.calls) == 1
    with pytest.raises(InputError, match="no schedule"):
        found.schedule()


def test_nothing_is_exploited_at_the_end() -> None:
    found = PopulationBased(space={"lr": log(1e-4, 1)}, most=3, every=3).run(Still([1.0, 2.0]), 2)
    assert found.changes == ()


def test_exploring_moves_by_the_factors_and_stays_in_the_space() -> None:
    space = {
        "lr": log(1e-3, 1), "momentum": one_minus(log(1e-3, 1e-1)), "drop": uniform(0, 0.5),
        "steps": integer(1, 9), "how": choice("a", "b"),
    }  # fmt: skip
    values = {"lr": 0.1, "momentum": 0.99, "drop": 0.2, "steps": 4, "how": "a"}
    strategy = PopulationBased(space=space, most=9, resample=0)
    seen: dict[str, set[Any]] = {key: set() for key in space}
    for seed in range(60):
        for key, value in strategy.explored(values, np.random.default_rng(seed)).items():
            seen[key].add(round(value, 9) if isinstance(value, float) else value)
    assert seen == {
        "lr": {0.08, 0.12}, "momentum": {0.992, 0.988}, "drop": {0.15, 0.25}, "steps": {3, 5}, "how": {"a"}
    }  # fmt: skip
    edge = {"lr": 1.0, "momentum": 0.999, "drop": 0.0, "steps": 9, "how": "b"}
    for seed in range(60):
        for key, value in strategy.explored(edge, np.random.default_rng(seed)).items():
            space[key].place(value)  # which raises outside of it


def test_resampling_draws_from_the_space_at_its_rate() -> None:
    strategy = PopulationBased(space={"how": choice(*range(1000))}, most=9, resample=0.25)
    new = [strategy.explored({"how": 0}, np.random.default_rng(seed))["how"] != 0 for seed in range(2000)]
    assert 0.22 < np.mean(new) < 0.28


def test_what_does_not_hold_for_a_member_stays_away() -> None:
    strategy = PopulationBased(space={"lr": log(1e-3, 1), "momentum": uniform(0, 1)}, most=9)
    assert set(strategy.explored({"lr": 0.1}, np.random.default_rng(0))) == {"lr"}


def test_the_same_seed_does_the_same() -> None:
    one, two = (PopulationBased(space=SPACE, most=100, every=5, seed=3).run(Toy(), 2) for _ in range(2))
    assert one == two
    other = PopulationBased(space=SPACE, most=100, every=5, seed=4).run(Toy(), 2)
    assert one.changes != other.changes


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"every": 0}, "every=0"), ({"every": 9}, "every=9 with most=4"), ({"share": 0.6}, "share=0.6"),
        ({"factors": (0.8, 0.0)}, "factors"), ({"resample": 1.5}, "resample=1.5"),
    ],
)  # fmt: skip
def test_settings_outside_of_their_domain_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        PopulationBased(**({"space": SPACE, "most": 4} | given))


def test_one_member_is_no_population() -> None:
    with pytest.raises(InputError, match="size=1"):
        PopulationBased(space=SPACE, most=4).run(Toy(), 1)
