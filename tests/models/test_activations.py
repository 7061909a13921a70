"""The table of activations against closed forms, SciPy's quadrature and differences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import integrate, stats

from downslope.core.errors import ModelError
from downslope.models import activations
from downslope.models.parts import ACTIVATIONS

ROOT = 1 / math.sqrt(2 * math.pi)
MEANS = {
    "relu": ROOT,
    "leaky_relu": 0.99 * ROOT,
    "prelu": 0.75 * ROOT,
    "identity": 0.0,
    "tanh": 0.0,
    "softsign": 0.0,
    "hardtanh": 0.0,
    "sigmoid": 0.5,
    "hardsigmoid": 0.5,
    "gelu": 1 / (2 * math.sqrt(math.pi)),  # Stein: E[Z Phi(Z)] = E[phi(Z)]
    "elu": ROOT + math.exp(0.5) * stats.norm.cdf(-1) - 0.5,
    "selu": 0.0,  # the fixed point of Klambauer et al. 2017, equation 3
}
POWERS = {"relu": 0.5, "leaky_relu": (1 + 1e-4) / 2, "prelu": (1 + 1 / 16) / 2, "identity": 1.0, "selu": 1.0}


def row(name: str, **options):
    (found,) = activations([name], **options)
    return found


@pytest.mark.parametrize("name", MEANS)
def test_the_mean_output_is_its_closed_form(name) -> None:
    assert row(name).mean == pytest.approx(MEANS[name], abs=1e-7 if name == "selu" else 1e-12)


@pytest.mark.parametrize("name", POWERS)
def test_the_power_of_the_output_is_its_closed_form(name) -> None:
    assert row(name).power == pytest.approx(POWERS[name], abs=1e-7 if name == "selu" else 1e-12)
    assert row(name).gain == pytest.approx(POWERS[name] ** -0.5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_integrals_are_scipys(name) -> None:
    found = row(name)

    def at(z: float, what: str) -> float:
        return float(getattr(found, what)(torch.tensor([z], dtype=torch.float64)))

    def expected(function) -> float:
        kinks = [-10, -3, -1, 0, 1, 3, 6, 10]
        parts = itertools.pairwise(kinks)
        return sum(integrate.quad(lambda z: function(z) * stats.norm.pdf(z), *each)[0] for each in parts)

    assert found.mean == pytest.approx(expected(lambda z: at(z, "value")), abs=1e-9)
    assert found.slope_power == pytest.approx(expected(lambda z: at(z, "slope") ** 2), abs=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_differences_of_values(name) -> None:
    found = row(name)
    z = torch.linspace(-7, 7, 301, dtype=torch.float64) + 0.013  # no kink of any
    differences = (found.value(z + 1e-6) - found.value(z - 1e-6)) / 2e-6
    torch.testing.assert_close(found.slope(z), differences, atol=1e-8, rtol=1e-7)
    assert found.lowest - 1e-6 <= found.value(z).min() <= found.value(z).max() <= found.highest + 1e-6
    assert found.flattest - 1e-6 <= found.slope(z).min() <= found.slope(z).max() <= found.steepest + 1e-6


def test_saturation_begins_where_the_slope_falls_below_the_share() -> None:
    p = (1 + math.sqrt(1 - 4 * 0.01)) / 2
    ends = {
        "sigmoid": math.log(p / (1 - p)),
        "tanh": math.atanh(math.sqrt(0.99)),
        "softsign": 9.0,
        "hardtanh": 1.0,
        "hardsigmoid": 3.0,
    }
    for name, end in ends.items():
        (low, high) = row(name).saturated
        assert low == (-math.inf, pytest.approx(-end))
        assert high == (pytest.approx(end), math.inf)
        assert row(name).lost == pytest.approx(2 * stats.norm.cdf(-end))
    assert row("elu").saturated == ((-math.inf, pytest.approx(math.log(0.01))),)
    assert row("relu").saturated == ((-math.inf, pytest.approx(0, abs=1e-9)),)
    assert row("relu").lost == pytest.approx(0.5)
    for name in ("leaky_relu", "prelu", "identity"):
        assert row(name).saturated == ()
    for name in ("silu", "gelu", "mish", "hardswish"):  # to the left, and where they turn
        left, turn = row(name).saturated
        assert left[0] == -math.inf
        assert -2 < turn[0] < turn[1] < -0.5


def test_a_larger_share_counts_more_as_saturated() -> None:
    assert row("leaky_relu", share=0.05).lost == pytest.approx(0.5)
    assert row("tanh", share=0.05).lost > row("tanh").lost


def test_bounds_of_values_and_slopes() -> None:
    assert (row("sigmoid").lowest, row("sigmoid").highest) == pytest.approx((0, 1))
    assert (row("sigmoid").flattest, row("sigmoid").steepest) == pytest.approx((0, 0.25))
    assert (row("relu").lowest, row("relu").highest) == (0.0, math.inf)
    assert row("identity").lowest == -math.inf
    assert row("silu").lowest == pytest.approx(-0.2784645, abs=1e-6)
    assert row("selu").steepest == pytest.approx(1.0507009873554805 * 1.6732632423543772, rel=1e-3)


def test_every_activation_of_the_table_has_a_row_and_the_table_is_text() -> None:
    table = activations()
    assert [each.name for each in table] == list(ACTIVATIONS)
    lines = str(table).splitlines()
    assert len(lines) == len(table) + 1
    assert lines[1].split()[:3] == ["relu", "0..inf", "0..1"]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: activations(["rellu"]), "did you mean 'relu'"),
        (lambda: activations(share=0), "share=0"),
        (lambda: activations(share=1.0), r"share=1\.0"),
        (lambda: activations([3]), "must be a name"),
    ],
)
def test_what_is_unknown_is_refused(act, said) -> None:
    with pytest.raises(ModelError, match=said):
        act()


def test_other_spellings_are_known() -> None:
    assert [each.name for each in activations(["Swish", "leaky-relu", "ReLU 6"])] == [
        "silu", "leaky_relu", "relu6",
    ]  # fmt: skip


def test_the_cost_is_measured_where_it_is_asked_for_in_multiples_of_relus() -> None:
    names = ["tanh", "relu", "gelu"]
    found = activations(names, cost=True)
    assert [each.cost is not None and each.cost > 0 for each in found] == [True] * 3
    assert found[1].cost == 1.0
    assert str(found).splitlines()[0].endswith("gain   cost")
    assert str(found).splitlines()[2].endswith("1.0")
    assert all(each.cost is None for each in activations(names))
