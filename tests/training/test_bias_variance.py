"""Bias and variance against errors counted by hand, by class, by region and by one's own groups."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import DataError, InputError
from tests.training.problems import classification, labels, regression

HOW = ds.Recipe(epochs=3, lr=0.01)


def run_of(problem: ds.Problem, recipe: ds.Recipe = HOW) -> ds.Run:
    return ds.fit(problem, recipe, folder=False, progress=False)


def test_errors_by_class_are_counted() -> None:
    run = run_of(classification(goal=0.9, train=labels(80), valid=labels(60, seed=1)))
    found = ds.bias_variance(run)
    model = run.model()
    assert found.measure == "error"
    by_name = {row.group: row for row in (found.all, *found.groups)}
    assert set(by_name) == {"all", "0", "1"}
    for part, source in (("train", run.problem.train_source), ("valid", run.problem.valid_source)):
        x, y = source.batch
        wrong = (model(x).argmax(1) != y).double()
        for name, row in by_name.items():
            own = wrong if name == "all" else wrong[y == int(name)]
            value, error = getattr(row, part)
            assert value == pytest.approx(float(own.mean()))
            assert error == pytest.approx(max(float(own.std()) / math.sqrt(len(own)), 0.5 / len(own)))
            assert getattr(row, f"{part}_n") == len(own)
    row = found.all
    assert row.achievable == pytest.approx(0.1)
    assert row.bias == pytest.approx(row.train[0] - 0.1)
    # validation error = achievable + bias + variance
    assert row.valid[0] == pytest.approx(row.achievable + row.bias + row.variance)
    assert row.variance_stderr == pytest.approx(math.hypot(row.train[1], row.valid[1]))


class ByHalf(nn.Module):
    """Right by heart where x0 > 0 (what it was trained on), always 0 elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.known: Tensor
        self.register_buffer("known", torch.zeros(0, 4))

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.tensor([any(torch.equal(row, own) for own in self.known) for row in x])
        yes = torch.where((x[:, 0] > 0) & seen, x[:, 3].sign(), -1.0)
        return self.scale * torch.stack([-yes, yes], 1)


def test_bias_in_one_region_and_variance_in_another_are_told_apart() -> None:
    g = torch.Generator().manual_seed(0)
    x, v = torch.randn(300, 4, generator=g), torch.randn(300, 4, generator=g)

    def make() -> nn.Module:
        model = ByHalf()
        model.known = x.clone()
        return model

    problem = ds.Problem(
        model=make, objective="cross_entropy", train=(x, (x[:, 3] > 0).long()),
        valid=(v, (v[:, 3] > 0).long()), metric="accuracy", goal=0.99,
    )  # fmt: skip
    run = run_of(problem, ds.Recipe(optimizer="gd", lr=1e-6, steps=1, batch_size="full"))
    found = ds.bias_variance(run, by=lambda inputs, _: ["right" if u > 0 else "left" for u in inputs[:, 0]])
    rows = {row.group: row for row in found.groups}
    assert rows["right"].larger == "variance"
    assert rows["left"].larger == "bias"
    assert found.all.larger == "both"
    given = ds.bias_variance(run, by=(["a"] * 300, ["a"] * 200 + ["b"] * 100), achievable={"a": 0.3})
    rows = {row.group: row for row in given.groups}
    assert rows["a"].achievable == 0.3
    assert rows["b"].train_n == 0
    assert math.isnan(rows["b"].train[0])
    assert "larger" in str(given)


def test_measurements_are_grouped_by_quarters_of_the_target() -> None:
    run = run_of(regression(metric="mae"))
    found = ds.bias_variance(run, achievable=0.1)
    assert found.measure == "mae"
    assert len(found.groups) == 4
    assert sum(row.train_n for row in found.groups) == 50
    assert max(row.train_n for row in found.groups) <= 13
    x, y = run.problem.train_source.batch
    wanted = (run.model()(x.float()) - y).abs().mean()
    assert found.all.train[0] == pytest.approx(float(wanted.detach()), rel=1e-5)


@pytest.mark.parametrize(
    ("measure", "goal", "allowed"), [("rmse", 0.5, 0.25), ("r2", 0.9, None), ("mse", 0.3, 0.3)]
)
def test_a_goal_is_read_in_the_unit_of_the_table(measure: str, goal: float, allowed: float | None) -> None:
    found = ds.bias_variance(run_of(regression(metric=measure, goal=goal)))
    assert found.measure == "mse"
    assert found.all.achievable == (None if allowed is None else pytest.approx(allowed))
    assert found.to_dict()["rows"][0]["bias"] == found.all.bias


def test_without_a_metric_the_loss_is_the_error() -> None:
    run = run_of(classification(metric=None))
    found = ds.bias_variance(run)
    assert found.measure == "loss"
    assert found.all.valid[0] == pytest.approx(run.summary["valid_loss"], rel=1e-5)
    assert found.all.valid[1] == pytest.approx(run.summary["valid_loss_stderr"], rel=1e-5)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"by": ([0] * 3, [0] * 20)}, "3 labels for 50 examples"),
        ({"by": lambda x, y: range(len(x))}, "50 groups|groups: up to"),
        ({"by": lambda x, y: 1 / 0}, "by failed on a batch"),
    ],
)
def test_groups_that_cannot_be_used_are_told(given: dict[str, Any], told: str) -> None:
    problem = classification(train=labels(80)) if callable(given["by"]) else classification()
    with pytest.raises(InputError, match=told):
        ds.bias_variance(run_of(problem), **given)


def test_without_validation_there_is_no_variance() -> None:
    with pytest.raises(DataError, match="validation"):
        ds.bias_variance(run_of(classification(valid=None)))


def test_an_objective_that_tells_no_error_of_an_example_is_refused_in_one_line() -> None:
    x, y = torch.randn(40, 3), torch.randn(40, 1)

    def own(output: Tensor, target: Tensor) -> Tensor:
        error = (output - target).square().mean()
        return error if bool(error > 0) else error.abs()

    problem = ds.Problem(model="linear", objective=own, train=(x, y), valid=(x, y))
    run = ds.fit(problem, ds.Recipe(epochs=1), folder=False, progress=False)
    with pytest.raises(
        InputError, match=r"need the error of every example, which \S*own does not tell; give a m"
    ):
        ds.bias_variance(run)
