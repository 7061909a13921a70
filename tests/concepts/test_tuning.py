"""Random search against a grid by counting, draws against their distributions, and which setting matters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import downslope as ds
from downslope.core.space import Dimension, applied
from downslope.training.population import fit_population
from downslope.tuning.defaults import default_space
from downslope.tuning.low_dimension import low_dimension


@pytest.mark.parametrize("mattering", [1, 2])
def test_random_search_and_a_grid_hit_as_often_as_counting_says(mattering: int) -> None:
    """NumPy's own draws, and the corners of the grid by hand; nothing is shared with the samplers."""
    found = low_dimension(trials=64, dimensions=3, mattering=mattering, side=0.2, repeats=300)
    generator = np.random.default_rng(1)
    lows = generator.uniform(0, 0.8, size=(4000, 1, mattering))
    points = generator.random((4000, 64, mattering))
    corners = np.array(list(itertools.product([0, 1 / 3, 2 / 3, 1], repeat=mattering)))[None]
    hit = {
        "random": ((points >= lows) & (points <= lows + 0.2)).all(2).any(1).mean(),
        "grid": ((corners >= lows) & (corners <= lows + 0.2)).all(2).any(1).mean(),
    }
    for counted, seen, by_hand in (
        (hit["random"], found.random, found.random_by_hand),
        (hit["grid"], found.grid, found.grid_by_hand),
    ):
        off = math.sqrt(by_hand * (1 - by_hand) / 4000)
        assert counted == pytest.approx(by_hand, abs=4 * off + 1e-9)
        assert seen == pytest.approx(by_hand, abs=4 * off * math.sqrt(4000 / 300) + 1e-9)
    assert found.random > found.grid


@pytest.mark.parametrize(
    ("dimension", "exponent"),
    [
        (ds.log(1e-5, 1e-1), lambda x: (np.log10(x) + 5) / 4),
        (ds.log(1e-7, 1e-1), lambda x: (np.log10(x) + 7) / 6),
        (ds.one_minus(ds.log(1e-3, 1e-1)), lambda x: (np.log10(1 - x) + 3) / 2),
    ],
    ids=["rate", "decay", "momentum"],
)
def test_what_is_drawn_is_ten_to_the_power_of_a_uniform(dimension: Dimension, exponent: object) -> None:
    u = np.random.default_rng(0).random(2000)
    drawn = np.array([dimension.draw(float(each)) for each in u])
    assert callable(exponent)
    assert stats.kstest(exponent(drawn), "uniform").pvalue > 0.01


def test_units_are_drawn_uniformly() -> None:
    u = np.random.default_rng(0).random(4000)
    counts = np.bincount([ds.integer(1, 8).draw(float(each)) for each in u], minlength=9)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_the_default_ranges_are_those_of_the_row() -> None:
    texts = {key: each.text() for key, each in default_space(ds.Recipe(optimizer="adam")).items()}
    assert next(iter(texts)) == "lr"
    assert texts["lr"] == ds.log(1e-5, 1e-1).text()
    assert texts["weight_decay"] == ds.log(1e-7, 1e-1).text()
    assert texts["betas.0"] == ds.one_minus(ds.log(1e-3, 1e-1)).text()


def test_the_rate_moves_the_loss_more_than_any_other_setting() -> None:
    """One by one along the default ranges; and the search says the same of its random trials."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 6, generator=generator, dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).long()
    problem = ds.Problem(
        model=_net, objective="cross_entropy", train=(x[:192], y[:192]), valid=(x[192:], y[192:])
    )
    recipe = ds.Recipe(optimizer="adam", batch_size=16, epochs=4, precision="float64")
    moved: dict[str, float] = {}
    for key, dimension in default_space(recipe).items():
        changed = [applied(problem, recipe, {key: dimension.draw(u)})[1] for u in np.linspace(0, 0.999, 7)]
        runs = fit_population(problem, changed, strict=False, progress=False)
        losses = [run.summary["valid_loss"] for run in runs]
        moved[key] = max(losses) - min(losses)
    first, second = sorted(moved, key=lambda key: -moved[key])[:2]
    assert first == "lr"
    assert moved["lr"] > 2 * moved[second]
    search = ds.tune(problem, recipe, trials=32, confirm=0, folder=False, progress=False)
    assert search.importances[0].key == "lr"
    assert search.importances[0].mattered


def _net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
