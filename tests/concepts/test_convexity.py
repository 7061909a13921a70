"""Convex functions and models: chords, second derivatives and minima, against NumPy and SciPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

import downslope as ds

PLAIN: dict[str, Any] = {
    "absolute": lambda x: np.maximum(np.abs(x - 1), 0),
    "flat_bottom": lambda x: np.maximum(np.abs(x) - 1, 0),
    "exponential": np.exp,
    "x_cos_pi_x": lambda x: x * np.cos(np.pi * x),
}


@pytest.mark.parametrize("name", list(PLAIN))
def test_a_function_is_convex_where_no_chord_of_it_runs_below_its_graph(name: str) -> None:
    function, graph = ds.functions.get(name), PLAIN[name]
    grid = np.linspace(*function.domain[0], 41)
    excess = [graph((a + b) / 2) - (graph(a) + graph(b)) / 2 for a, b in itertools.combinations(grid, 2)]
    found = ds.convexity(function.problem())
    assert found.convex == (max(excess) < 1e-12)
    assert found.proved
    if found.strictly is False:  # some chord lies on the graph
        assert max(excess) > -1e-12


def test_convex_does_not_mean_one_minimum_nor_that_there_is_one() -> None:
    found = {name: ds.convexity(ds.functions.get(name).problem()) for name in PLAIN}
    assert [found[name].minima for name in ("absolute", "flat_bottom", "exponential")] == [
        "one",
        "many",
        "none",
    ]
    assert found["exponential"].attained is False
    lowest = [minimize(PLAIN["flat_bottom"], start, method="Nelder-Mead").fun for start in (-3.0, 0.4, 2.5)]
    assert max(lowest) < 1e-4
    assert PLAIN["exponential"](-700.0) < 1e-300 < PLAIN["exponential"](-600.0)


def test_the_witness_of_a_function_that_is_not_convex_bends_down() -> None:
    found = ds.convexity(ds.functions.get("x_cos_pi_x").problem())
    assert found.witness is not None
    x, h = float(found.witness.at["point"]), 1e-4
    graph = PLAIN["x_cos_pi_x"]
    second = (graph(x + h) - 2 * graph(x) + graph(x - h)) / h**2
    assert second < 0
    assert found.witness.excess == pytest.approx(second, rel=1e-4)


def small(model: str) -> ds.Problem:
    images = ds.data.digits(images=True, scale=16).train
    x = {"cnn": images[0], "rnn": images[0][:, 0], "transformer": images[0][:, 0]}.get(
        model, images[0].flatten(1)
    )
    return ds.Problem(model=model, objective="cross_entropy", train=(x[:60], images[1][:60]))


@pytest.mark.parametrize(
    ("model", "convex"),
    [("softmax", True), ("mlp", False), ("cnn", False), ("rnn", False), ("transformer", False)],
)
def test_only_the_model_that_is_affine_in_its_weights_is_convex(model: str, convex: bool) -> None:
    problem = small(model)
    found = ds.convexity(problem, samples=2)
    assert (found.convex, found.proved) == (convex, True)
    if found.witness is None:
        return
    # By hand: the second difference of the loss along the witness, in float64.
    at, way, h = found.witness.at, found.witness.direction, 1e-3
    held = problem.build().double().eval()
    x, y = problem.train_source.head(60)

    def loss(t: float) -> float:
        moved = {name: at[name].double() + t * way[name].double() for name in at}
        return float(nn.functional.cross_entropy(torch.func.functional_call(held, moved, (x.double(),)), y))

    second = (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2
    assert second == pytest.approx(found.witness.excess, abs=0.1 * abs(found.witness.excess))


def test_of_a_convex_problem_every_start_ends_in_the_one_minimum_and_separable_data_have_none() -> None:
    x, y = ds.data.breast_cancer(standardise=True).train
    bare = ds.Problem(model="logistic", objective="logistic", train=(x, y.float()))
    penalised = bare.edit(**{"objective.l2": 1e-2})
    found = ds.convexity(penalised)
    a, s = np.column_stack([x.double().numpy(), np.ones(len(x))]), 2 * y.double().numpy() - 1

    def objective(w: Any) -> float:
        return float(np.logaddexp(0, -s * (a @ w)).mean() + 0.5e-2 * (w[:-1] @ w[:-1]))

    ends = [minimize(objective, np.full(a.shape[1], start), tol=1e-12).fun for start in (0.0, 1.0)]
    assert (found.minima, found.strictly) == ("one", True)
    assert ends == pytest.approx([found.optimum] * 2, abs=1e-8)
    assert ds.convexity(bare).minima == "none"


def test_that_no_witness_was_found_is_never_called_a_proof() -> None:
    draw = torch.Generator().manual_seed(0)
    x, t = torch.randn(30, 4, generator=draw), torch.randn(30, 1, generator=draw)
    problem = ds.Problem(
        model=lambda: nn.Linear(4, 1), objective=lambda o, t: (o - t).pow(4).mean(), train=(x, t)
    )  # fmt: skip
    found = ds.convexity(problem, samples=3)
    assert (found.convex, found.proved, found.by) == (None, False, "samples")
    assert "proves nothing" in str(found)
