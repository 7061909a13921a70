"""Saddle point and plateau: ground that does not lead on, on closed forms and on runs that stand there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.edits import Reinitialise
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms.plateau import plateau
from downslope.diagnosis.symptoms.saddle_point import saddle_point
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.problems import Pair, classes, diagnosed, found, net, problem, recipe
from tests.diagnosis.symptoms.trying import FAR, finding, tried


class Squared(nn.Module):
    """(w x)^2: at w = 0 the gradient is 0, and every curvature is negative where the target is positive."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.w = nn.Parameter(scale * torch.randn(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w) ** 2


def squares(scale: float) -> tuple[ds.Problem, ds.Recipe]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=draw)
    y = (x.sum(1, keepdim=True) / 6**0.5) ** 2
    data = ((x[:450], y[:450]), (x[450:], y[450:]))
    how = recipe(optimizer="gd", lr=0.02, batch_size="full", steps=120)
    return problem(data, lambda: Squared(scale), "mse", "r2"), how


class Product(nn.Module):
    """Three maps without biases, tanh between: where all weights are 0 so are all first derivatives."""

    def __init__(self, scale: float | None) -> None:
        super().__init__()
        sizes = ((12, 24), (24, 24), (24, 4))
        self.a, self.b, self.c = (nn.Linear(i, o, bias=False) for i, o in sizes)
        for p in self.parameters() if scale is not None else ():
            nn.init.normal_(p, 0.0, scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


def product(scale: float | None) -> tuple[ds.Problem, ds.Recipe]:
    how = recipe(optimizer="sgd", lr=0.1, momentum=0.9, epochs=8)
    return problem(classes(), lambda: Product(scale), "cross_entropy", "accuracy"), how


def test_a_start_at_a_saddle_is_the_root_and_a_new_draw_cures_it() -> None:
    """Tiny weights are how a run gets there: the scale of the start is the earlier name of the same cause."""
    task, how = product(1e-6)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom in ("saddle-point", "init-scale")
    remedy = result.root.remedies[0]
    assert isinstance(remedy, Reinitialise)
    assert diagnosed(*remedy.apply(task, how)).healthy
    assert diagnosed(*product(None)).healthy


def test_the_ground_of_a_run_at_a_saddle_has_the_curvature_of_its_closed_form() -> None:
    task, how = squares(1e-20)
    result = diagnosed(task, how)
    assert not result.healthy
    ground = result.run.facts["ground"]
    x, y = task.train_source.batch  # type: ignore[attr-defined]
    # Of the mean of ((w x)^2 - y)^2 at 0 the Hessian is -4 E[y x x^T]; the ground is measured on 256 rows.
    least = float(torch.linalg.eigvalsh((-4 * (y * x).T @ x / len(x)).double())[0])
    assert ground["lambda_min"] == pytest.approx(least, rel=0.25)
    del result.run.facts["trials"]
    assert finding(saddle_point(result.run)).severity == "critical"


def test_the_same_model_off_the_saddle_is_healthy() -> None:
    assert diagnosed(*squares(0.3)).healthy


def yes(bias: float) -> tuple[ds.Problem, ds.Recipe]:
    """A sigmoid under a squared error whose bias starts at `bias`."""
    x = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    y = ((x[:, 0] + x[:, 1] ** 2 - 1) > 0).float()[:, None]
    data: tuple[Pair, Pair] = ((x[:450], y[:450]), (x[450:], y[450:]))

    def make() -> nn.Module:
        model = net(8, 1, nn.Sigmoid())
        nn.init.constant_(model.get_submodule("4").bias, bias)  # type: ignore[arg-type]
        return model

    return problem(data, make, "mse", "r2"), recipe(optimizer="sgd", lr=0.3, epochs=30)


def test_a_sigmoid_that_starts_shut_stands_on_a_plateau_until_it_is_drawn_anew() -> None:
    task, how = yes(-12.0)
    result = diagnosed(task, how)
    assert result.root is not None
    assert result.root.symptom == "plateau"
    remedy = result.root.remedies[0]
    assert isinstance(remedy, Reinitialise)
    cured = diagnosed(*remedy.apply(task, how))
    assert found(cured, "plateau") is None
    assert cured.run.summary["valid_metric"] > 0.6


def test_a_sigmoid_that_is_nearly_shut_finds_its_way() -> None:
    task, how = yes(-2.0)
    assert diagnosed(task, how.edit(epochs=60)).healthy


# -- by hand: the way is 2.2, a move of 1 -----------------------------------------------------------------


def on(low: float, high: float, slope: float = 0.0, loss: float = 2.3, share: float | None = None,
       residual: float = 0.0, name: str = "saddle-point") -> Run:  # fmt: skip
    ground: dict[str, Any] = {
        "grad_norm": slope, "reach": 1.0, "weight_norm": 10.0, "lambda_min": low, "lambda_max": high,
        "lambda_min_residual": residual, "lambda_max_residual": 0.0, "downhill": 0.0,
    }  # fmt: skip
    return tried(run([loss] * 200, references=FAR, ground=ground), name, share)


def test_negative_curvature_without_a_slope_is_a_saddle() -> None:
    told = finding(saddle_point(on(-1.0, 4.0)))
    assert told.severity == "critical"
    assert told.evidence.value == pytest.approx(0.25)
    assert finding(saddle_point(on(-3.0, -1.0))).evidence.value == pytest.approx(1.0)  # a maximum


@pytest.mark.parametrize(
    "given",
    [
        on(0.5, 4.0), on(-0.1, 4.0), on(-1.0, 4.0, residual=0.6), on(-1.0, 4.0, slope=0.1), on(-0.03, 0.03),
        on(-1.0, 4.0, loss=0.1), on(-1.0, 4.0, share=0.05),
    ],
    ids=["minimum", "a little", "uncertain", "slope", "flat", "arrived", "refuted"],
)  # fmt: skip
def test_what_looks_like_a_saddle_and_is_none(given: Run) -> None:
    assert isinstance(saddle_point(given), Clear)


def test_level_ground_far_from_the_bottom_is_a_plateau() -> None:
    told = finding(plateau(on(-1e-3, 1e-3, slope=1e-3, name="plateau")))
    assert told.severity == "critical"
    assert told.evidence.value == pytest.approx((1e-3 + 0.5e-3) / 2.2)
    assert isinstance(plateau(on(0.0, 1.0, name="plateau")), Clear)
    assert isinstance(plateau(on(0.0, 0.0, slope=0.1, name="plateau")), Clear)
    assert isinstance(plateau(on(0.0, 0.0, loss=0.1, name="plateau")), Clear)
    assert isinstance(plateau(on(0.0, 0.0, share=0.05, name="plateau")), Clear)


def test_one_ground_is_either_a_plateau_or_a_saddle() -> None:
    for low in (-1e-3, -0.02, -0.05, -1.0):
        told = [not isinstance(check(on(low, -low)), Clear) for check in (plateau, saddle_point)]
        assert sum(told) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_ground_that_is_not_finite_is_never_an_alarm(value: float) -> None:
    for check in (plateau, saddle_point):
        assert isinstance(check(on(value, value, slope=value)), Clear)
