"""Hyperband against the algorithm of the paper, and another implementation's table."""

from __future__ import annotations

import math

import optuna
import pytest

from downslope.core.errors import InputError
from downslope.tuning.hyperband import Hyperband
from tests.tuning.curves import Curves

TABLE_1 = {
    4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    3: [(34, 3), (11, 9), (3, 27), (1, 81)],
    2: [(15, 9), (5, 27), (1, 81)],
    1: [(8, 27), (2, 81)],
    0: [(5, 81)],
}
"""Li et al. 2018, algorithm 1 with R = 81 and eta = 3, by hand: members and units of each rung, by s."""


def test_brackets_are_those_of_the_paper() -> None:
    found = {each.number: list(each.rungs) for each in Hyperband(most=81, eta=3).brackets}
    assert found == TABLE_1


@pytest.mark.parametrize(("most", "eta"), [(81, 3), (27, 3), (100, 3), (16, 2), (50, 2), (256, 4), (2, 5)])
def test_as_many_begin_in_each_bracket_as_in_optuna(most: int, eta: int) -> None:
    """Its `HyperbandPruner` shares trials out by the same ceiling of algorithm 1."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=most, reduction_factor=eta)
    pruner._try_initialization(optuna.create_study())
    mine = [each.members for each in Hyperband(most=most, eta=eta).brackets]
    assert mine == pruner._trial_allocation_budgets


def test_the_program_of_the_authors_begins_fewer_where_it_rounds_early() -> None:
    """It takes ``int((s_max + 1) / (s + 1))`` first, as do tables made by it (Orion's tests hold one)."""

    def theirs(s: int) -> int:
        return math.ceil(int(5 / (s + 1)) * 3**s)

    assert [theirs(s) for s in (4, 3, 2, 1, 0)] == [81, 27, 9, 6, 5]
    assert [each.members for each in Hyperband(most=81).brackets] == [81, 34, 15, 8, 5]


def test_brackets_are_those_of_the_paper_with_eta_2() -> None:
    """As mlr3hyperband prints them for R = 8."""
    assert [list(each.rungs) for each in Hyperband(most=8, eta=2).brackets] == [
        [(8, 1), (4, 2), (2, 4), (1, 8)], [(6, 2), (3, 4), (1, 8)], [(4, 4), (2, 8)], [(4, 8)]
    ]  # fmt: skip


def test_the_number_of_halvings_is_exact_at_powers() -> None:
    """floor(log(R) / log(eta)) in floating point gives 4 for 3**5 and 2 for 5**3."""
    assert [Hyperband(most=eta**k, eta=eta).halvings for eta, k in ((3, 5), (5, 3), (10, 3))] == [5, 3, 3]


def test_every_bracket_costs_about_the_same() -> None:
    """At most (s_max + 1) R units each, if every rung trained anew."""
    for each in Hyperband(most=81).brackets:
        anew = sum(n * units for n, units in each.rungs)
        assert 0.6 * 5 * 81 <= anew <= 1.1 * 5 * 81


def test_it_finds_late_bloomers_that_the_hardest_halving_drops() -> None:
    """A member that needs 9 units to show what it can: bracket 4 drops it, those that start later do not."""

    def curve(member: int, units: int) -> float:
        late = member % 7 == 0
        return (2.0 if late and units < 9 else 0.0 if late else 1.0) + 1e-6 * member

    curves = Curves(curve)
    found = Hyperband(most=81).run(curves.train, curves.ask)
    first = [rung for rung in found.rungs if rung.bracket == 4]
    assert all(member % 7 for member in first[-1].members)
    assert found.best is not None
    assert found.best % 7 == 0
    assert curves.begun == 81 + 34 + 15 + 8 + 5


def test_trials_bound_what_begins_and_a_short_bracket_keeps_its_shares() -> None:
    curves = Curves(lambda member, units: float(member))
    found = Hyperband(most=9).run(curves.train, curves.ask, 9 + 3)
    assert curves.begun == 12
    assert [(rung.bracket, len(rung.members), rung.units) for rung in found.rungs] == [
        (2, 9, 1), (2, 3, 3), (2, 1, 9), (1, 3, 3), (1, 1, 9)
    ]  # fmt: skip


def test_more_trials_than_one_pass_begin_it_again() -> None:
    curves = Curves(lambda member, units: float(member))
    once = Hyperband(most=9).members
    found = Hyperband(most=9).run(curves.train, curves.ask, once + 9)
    assert curves.begun == once + 9
    assert [rung.bracket for rung in found.rungs][-3:] == [2, 2, 2]


def test_a_budget_that_ends_ends_it_between_brackets() -> None:
    curves = Curves(lambda member, units: float(member))
    left = iter([9, 0])
    found = Hyperband(most=9).run(curves.train, lambda n: curves.ask(next(left)))
    assert {rung.bracket for rung in found.rungs} == {2}
    assert found.best == 0


def test_nothing_finite_in_any_bracket() -> None:
    curves = Curves(lambda member, units: math.nan)
    assert Hyperband(most=9).run(curves.train, curves.ask).best is None


def test_eta_below_two_is_refused() -> None:
    with pytest.raises(InputError, match="eta=1"):
        Hyperband(most=9, eta=1)
