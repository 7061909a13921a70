"""The power law of error against data: what it finds again, and that its intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from downslope.core.errors import InputError
from downslope.training.power_law import fit_power_law

SIZES = np.repeat([100, 200, 400, 800], 3)


def draw(floor: float, scale: float, exponent: float, noise: float, seed: int) -> np.ndarray:
    truth = floor + scale * SIZES**-exponent
    return truth * (1 + noise * np.random.default_rng(seed).standard_normal(len(SIZES)))


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.0, 2, 0.5), (0.05, 3, 0.7), (0.1, 20, 1.0)])
def test_a_curve_without_noise_is_found_again(floor, scale, exponent):
    law = fit_power_law(SIZES, draw(floor, scale, exponent, 0.0, 0))
    assert law.at(1600).value == pytest.approx(floor + scale * 1600**-exponent, rel=0.02)
    assert law.exponent == pytest.approx(exponent, rel=0.05)
    found = law.gain(800)
    assert found.value == pytest.approx(scale * (800**-exponent - 1600**-exponent), rel=0.05)


def test_the_least_squares_are_scipys():
    errors = draw(0.05, 3.0, 0.7, 0.05, 1)
    law = fit_power_law(SIZES, errors)
    means = np.asarray([errors[n == SIZES].mean() for n in SIZES])
    found, _ = optimize.curve_fit(
        lambda n, c, a, b: c + a * n**-b, SIZES, errors, p0=(0.05, 3.0, 0.7), sigma=means,
        bounds=([0, 0, 0.02], [1, 100, 4]),
    )  # fmt: skip
    wanted = float((((errors - (found[0] + found[1] * SIZES ** -found[2])) / means) ** 2).sum())
    ours = float((((errors - (law.floor + law.scale * SIZES**-law.exponent)) / means) ** 2).sum())
    assert ours == pytest.approx(wanted, rel=2e-3)


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.05, 2.0, 0.6), (0.0, 1.0, 0.4), (0.2, 5.0, 1.0)])
def test_intervals_hold_the_truth_in_about_95_of_100_draws(floor, scale, exponent):
    inside = np.zeros(2)
    for seed in range(60):
        law = fit_power_law(SIZES, draw(floor, scale, exponent, 0.05, seed))
        error, gain = law.at(1600), law.gain(800)
        truth = floor + scale * 1600**-exponent
        won = scale * (800**-exponent - 1600**-exponent)
        inside += [error.low <= truth <= error.high, gain.low <= won <= gain.high]
    assert (inside >= 0.85 * 60).all()


def test_more_noise_and_further_away_leave_more_open():
    def width(noise: float, n: int) -> float:
        widths = [fit_power_law(SIZES, draw(0.05, 2.0, 0.6, noise, seed)).at(n) for seed in range(10)]
        return float(np.mean([each.high - each.low for each in widths]))

    assert width(0.02, 1600) < width(0.08, 1600)
    assert width(0.05, 1600) < width(0.05, 12800)


def test_a_flat_curve_wins_nothing():
    gain = fit_power_law(SIZES, 0.1 + 1e-4 * np.random.default_rng(0).standard_normal(len(SIZES))).gain(800)
    assert gain.value < 1e-3
    assert gain.low == 0.0


@pytest.mark.parametrize(
    ("sizes", "errors"),
    [([1, 2, 3], [1, 1, 1]), ([1, 1, 1, 2, 2], [1] * 5), ([1, 2, 3, 4, 5], [1, 1, np.nan, 1, 1]),
     ([1, 2, 3, 4, 5], [1, 1, -1, 1, 1])],
)  # fmt: skip
def test_too_little_or_no_errors_is_told(sizes, errors):
    with pytest.raises(InputError, match="power law"):
        fit_power_law(sizes, errors)
