"""The learning curve: nested and stratified parts, as many steps, the rate that theory gives, the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import DataError, InputError
from downslope.training.learning_curve import LearningCurve, learning_curve, order
from downslope.training.power_law import fit_power_law
from tests.training.problems import classification, labels, regression

HOW = ds.Recipe(optimizer="adam", lr=0.01, batch_size=16, epochs=4)


def curve(problem: ds.Problem, recipe: ds.Recipe = HOW, **given: Any) -> Any:
    return learning_curve(problem, recipe, progress=False, **given)


def test_every_beginning_has_the_classes_in_their_shares() -> None:
    y = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    problem = classification(train=(torch.randn(100, 4), y))
    for seed in range(5):
        found = order(problem, problem.train_source, seed)
        assert sorted(found.tolist()) == list(range(100))
        for n in (10, 20, 50):
            counts = torch.bincount(y[found[:n]], minlength=3).tolist()
            assert counts == pytest.approx([0.6 * n, 0.3 * n, 0.1 * n], abs=1.01)
    assert order(problem, problem.train_source, 0).tolist() != found.tolist()


def test_sizes_seeds_and_steps_are_those_asked_for() -> None:
    problem = classification(train=labels(64))
    found = curve(problem, fractions=(0.25, 1.0), seeds=[3, 5])
    assert found.sizes.tolist() == [16, 64]
    assert found.valid.shape == found.train.shape == (2, 2)
    assert {run.summary["steps"] for run in found.runs} == {16}  # 4 epochs of 4 batches
    assert [run.recipe.seed for run in found.runs] == [3, 5, 3, 5]
    assert found.measure == "error"
    assert found.valid[1, 0] == pytest.approx(1 - found.runs[2].summary["valid_metric"])
    small, large = (run.problem.train_source.batch[0] for run in (found.runs[0], found.runs[2]))
    assert {tuple(row) for row in small.tolist()} <= {tuple(row) for row in large.tolist()}
    alone = ds.fit(found.runs[0].problem, found.runs[0].recipe, folder=False, progress=False)
    assert alone.summary["valid_loss"] == found.runs[0].summary["valid_loss"]
    assert found.verdict == "cannot tell"
    assert "2 sizes" in found.said


def test_edits_that_read_the_data_read_the_part() -> None:
    problem = regression().edit(ds.edits.StandardiseInputs())
    found = curve(problem, fractions=(0.2, 1.0), seeds=1)
    part = found.runs[0].problem
    assert torch.allclose(part.edits[0].scale[0], part.train_source.batch[0].mean(0), atol=1e-6)


def test_patience_lasts_as_many_steps_on_a_part() -> None:
    problem = classification(train=labels(64))
    found = curve(problem, HOW.edit(epochs=50, patience=2), fractions=(0.25, 1.0), seeds=1)
    assert [run.recipe.patience for run in found.runs] == [8, 2]


def linear(n: int, d: int = 8, noise: float = 1.0) -> ds.Problem:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + 2000, d, generator=g, dtype=torch.float64)
    y = x @ torch.ones(d, dtype=torch.float64) + noise * torch.randn(
        n + 2000, generator=g, dtype=torch.float64
    )
    return ds.Problem(
        model=lambda: nn.Linear(d, 1), objective="squared_error", metric="mse",
        train=(x[:n], y[:n]), valid=(x[n:], y[n:]),
    )  # fmt: skip


def test_least_squares_has_the_curve_that_theory_gives() -> None:
    recipe = ds.Recipe(optimizer="gd", lr=0.3, batch_size="full", steps=150, precision="float64")
    found = curve(linear(800), recipe, fractions=(0.05, 0.1, 0.2, 0.5, 1.0), seeds=6)
    sizes = found.sizes
    # Of n Gaussian examples in d dimensions: sigma**2 (1 + p / (n - p - 1)), p = d + 1 with the bias.
    x, y = found.runs[-1].problem.valid_source.batch
    floor = float((y - x.sum(1)).square().mean())
    wanted = floor * (1 + 9 / (sizes - 10.0))
    assert found.valid.mean(1) == pytest.approx(wanted, rel=0.08)
    assert found.law.at(1600).low <= floor * 1.006 <= found.law.at(1600).high
    assert found.verdict == "more data hardly helps"


@pytest.mark.parametrize(
    ("floor", "noise", "wanted"),
    [(0.0, 0.02, "more data helps"), (0.5, 0.002, "more data hardly helps"), (0.1, 0.2, "cannot tell")],
)
def test_the_verdict_follows_the_curve_and_its_noise(floor: float, noise: float, wanted: str) -> None:
    sizes = np.asarray([100, 200, 400, 800])
    spread = 1 + noise * np.random.default_rng(0).standard_normal((4, 3))
    valid = (floor + 2.0 * sizes[:, None] ** -0.5) * spread
    law = fit_power_law(np.repeat(sizes, 3), valid.ravel())
    found = LearningCurve(
        measure="error", sizes=sizes, train=0 * valid, valid=valid, valid_stderr=0.01, achievable=None,
        runs=(), law=law,
    )  # fmt: skip
    assert found.verdict == wanted
    assert found.said.startswith(f"{wanted}: from 800 examples to 1600 the error would go from")
    gain = found.to_dict()["law"]["gain"]
    assert gain["low"] <= gain["value"] <= gain["high"]


@pytest.mark.parametrize(
    ("problem", "given", "told"),
    [
        (lambda: classification(valid=None), {}, "has none: give valid="),
        (classification, {"fractions": (1.0,)}, "two or more shares"),
        (classification, {"fractions": (0.5, 1.5)}, r"each in \(0, 1\]"),
        (classification, {"seeds": []}, "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_told(problem: Any, given: dict[str, Any], told: str) -> None:
    with pytest.raises((InputError, DataError), match=told):
        curve(problem(), **given)


def test_a_page_shows_curve_and_table() -> None:
    problem = classification(train=labels(64))
    found = curve(problem, fractions=(0.25, 0.5, 1.0), seeds=2)
    html = ds.report(found, ds.bias_variance(found.runs[-1])).html
    assert "Would more data help?" in html
    assert "Bias and variance" in html
    assert "training examples" in html
