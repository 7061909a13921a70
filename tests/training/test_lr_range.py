"""The range test: the known stable limit of quadratics, what it must refuse; one batch fools it not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import InputError
from tests.training.problems import classification


class Point(nn.Module):
    """A point in the plane that no input moves."""

    def __init__(self, start: tuple[float, ...] = (1.0, 1.0)) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w.expand(len(x), -1)


def quadratic(*curvatures: float, start: tuple[float, ...] = (1.0, 1.0)) -> ds.Problem:
    """``sum c_i w_i^2 / 2``: the stable limit of gradient descent is 2 / max c."""
    c = torch.tensor(curvatures, dtype=torch.float64)
    x = torch.zeros(4, 1, dtype=torch.float64)
    return ds.Problem(
        model=lambda: Point(start),
        objective=lambda w, _: 0.5 * (c * w.square()).sum(1).mean(),
        train=(x, torch.arange(4.0, dtype=torch.float64)),
    )


def ranged(problem: ds.Problem, recipe: ds.Recipe | None = None, **more: Any) -> Any:
    return ds.lr_range(problem, recipe or ds.Recipe(optimizer="gd", lr=1.0), **{"progress": False} | more)


@pytest.mark.parametrize("sharpest", [0.01, 1.0, 40.0, 1e4])
def test_the_limit_of_a_quadratic_is_two_over_its_largest_curvature(sharpest: float) -> None:
    found = ranged(quadratic(0.1 * sharpest, sharpest))
    stable, unstable = found.limit
    assert stable <= 2 / sharpest * 1.02  # 60 steps at 2 % beyond the limit are told
    assert unstable >= 2 / sharpest
    assert unstable / stable <= 1.15 + 1e-9
    assert found.low < found.suggested <= found.high <= stable
    assert not found.refused


def test_the_suggestion_for_a_quadratic_is_near_the_rate_that_theory_gives() -> None:
    """``2 / (c_min + c_max)`` shrinks both directions alike (Nesterov 2004, 2.1.15)."""
    found = ranged(quadratic(1.0, 9.0))
    assert 0.1 <= found.suggested <= 0.222
    assert found.interval[0] <= found.suggested <= found.interval[1]


def test_heavy_ball_is_stable_further() -> None:
    plain = ranged(quadratic(1.0, 10.0), ds.Recipe(optimizer="sgd", lr=1.0, batch_size="full"))
    heavy = ranged(quadratic(1.0, 10.0), ds.Recipe(optimizer="sgd", lr=1.0, momentum=0.5, batch_size="full"))
    assert heavy.limit[1] >= 2 * 1.5 / 10
    assert heavy.limit[0] / plain.limit[0] == pytest.approx(1.5, rel=0.2)


def test_a_real_problem_gets_a_range_that_trains() -> None:
    problem = classification()
    found = ranged(problem, ds.Recipe(optimizer="adam", batch_size=10), steps=40)
    assert not found.refused
    assert 1e-3 < found.suggested < 1
    trained = ds.fit(
        problem, ds.Recipe(optimizer="adam", lr=found.suggested, batch_size=10, epochs=10), folder=False,
        progress=False,
    )  # fmt: skip
    usual = ds.fit(
        problem, ds.Recipe(optimizer="adam", lr=1e-5, batch_size=10, epochs=10), folder=False, progress=False
    )
    assert trained.summary["train_loss"] < usual.summary["train_loss"]


def test_what_is_maximised_is_ranged_upwards() -> None:
    up = ds.Problem(
        model=Point,
        objective=lambda w, _: -0.5 * (torch.tensor([1.0, 4.0]) * w.square()).sum(1).mean(),
        train=quadratic(1.0, 4.0).train,
        maximize=True,
    )
    assert ranged(up).limit[1] >= 0.5


def test_a_lucky_batch_does_not_decide() -> None:
    """One batch in ten has a loss a hundred times smaller: a sweep's steepest point is wherever it falls."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(200, generator=generator)
    x[::10] *= 0.1
    y[::10] *= 0.1
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y))
    found = [ranged(problem, ds.Recipe(optimizer="sgd", batch_size=4, seed=seed)) for seed in (0, 7)]
    assert not any(each.refused for each in found)
    assert abs(math.log10(found[0].suggested / found[1].suggested)) < 0.6


def test_a_constant_target_is_refused() -> None:
    x = torch.randn(40, 4)
    found = ranged(ds.Problem(model="linear", objective="squared_error", train=(x, torch.ones(40))))
    assert found.refused
    assert "the target is constant" in found.reason
    assert found.suggested is found.low is found.high is None


def test_a_loss_that_is_not_finite_is_refused_by_name() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([-1.0]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(self.w) * x[:, 0]

    problem = ds.Problem(model=Root, objective="squared_error", train=(torch.randn(20, 1), torch.randn(20)))
    found = ranged(problem)
    assert "not finite before any step" in found.reason
    assert not found.table


def test_data_that_is_not_finite_is_unusable_input_as_everywhere() -> None:
    x = torch.randn(20, 2)
    x[3, 1] = math.nan
    with pytest.raises(InputError, match="nan"):
        ranged(ds.Problem(model="linear", objective="squared_error", train=(x, torch.randn(20))))


def test_a_loss_that_does_not_depend_on_the_rate_is_refused() -> None:
    class Own(torch.optim.SGD):
        """Takes a rate and goes its own way."""

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p -= 0.05 * p.grad

    found = ranged(
        quadratic(1.0, 2.0), ds.Recipe(optimizer=lambda params: Own(params, lr=0.1), batch_size="full")
    )
    assert "does not depend on the rate" in found.reason


def test_a_start_at_the_optimum_is_refused() -> None:
    found = ranged(quadratic(1.0, 2.0, start=(0.0, 0.0)))
    assert "the start is as good as it gets" in found.reason
    assert "gradient norm 0" in found.reason


def test_a_start_near_the_optimum_with_noise_is_refused() -> None:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    y = torch.randn(400, generator=torch.Generator().manual_seed(1))  # nothing to learn but the noise

    def solved() -> nn.Module:
        model = nn.Linear(3, 1)
        design = torch.cat([x, torch.ones(400, 1)], 1)
        best = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
        with torch.no_grad():
            model.weight.copy_(best[None, :3])
            model.bias.copy_(best[3:])
        return model

    problem = ds.Problem(model=solved, objective="squared_error", train=(x, y))
    found = ranged(problem, ds.Recipe(optimizer="sgd", batch_size=8), steps=20)
    assert found.refused


def test_the_test_ends_when_its_time_is_up() -> None:
    found = ranged(quadratic(1.0, 2.0), seconds=1e-3)
    assert found.refused or len(found.table) < 8


@pytest.mark.parametrize("given", [{"steps": 3}, {"seeds": 1}, {"seeds": 2.5}, {"steps": True}])
def test_too_few_steps_or_seeds_are_refused_in_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be an integer of at least"):
        ranged(quadratic(1.0, 2.0), **given)


def test_the_answer_reads_in_one_line_and_as_plain_values() -> None:
    found = ranged(quadratic(1.0, 2.0))
    assert str(found).startswith("learning rate 0.")
    assert "stable up to" in str(found)
    plain = found.to_dict()
    assert plain["suggested"] == found.suggested
    assert [row["lr"] for row in plain["table"]] == sorted(row["lr"] for row in plain["table"])


def test_what_is_tried_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    ds.lr_range(quadratic(1.0, 2.0), ds.Recipe(optimizer="gd"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "range: lr 0, 3 seeds of 60 steps"
    assert all(line.startswith("range: lr ") for line in lines)


def test_the_mean_gain_of_a_rate_is_that_of_its_runs() -> None:
    """Against runs of `fit` itself, on the same batches."""
    problem, recipe = classification(), ds.Recipe(optimizer="sgd", batch_size=10, seed=5)
    found = ranged(problem, recipe, steps=16, seeds=2)
    row = next(each for each in found.table if each.lr == 0.1)
    ends = []
    for lr in (0.0, 0.1):
        runs = [
            ds.fit(problem, recipe.edit(lr=lr, steps=16, seed=seed), folder=False, progress=False)
            for seed in (5, 6)
        ]
        ends.append(np.asarray([run.history.series("train_loss").values[-4:].mean() for run in runs]))
    assert row.gain == pytest.approx(((ends[0] - ends[1]) / ends[0]).mean(), rel=1e-6)
    assert row.loss == pytest.approx(ends[1].mean(), rel=1e-6)
