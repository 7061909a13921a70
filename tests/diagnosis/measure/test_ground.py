"""Slope and curvature at the last weights, against the dense Hessian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from downslope.diagnosis.measure.ground import measure
from tests.diagnosis.measure.made import ended


def dense(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of the mean squared error in float64, row by row."""
    model = model.double()
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        parts, at = {}, 0
        for name, shape in shapes.items():
            parts[name] = flat[at : at + shape.numel()].reshape(shape)
            at += shape.numel()
        return (functional_call(model, parts, (x.double(),)) - y.double()).square().mean()

    flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(flat), flat)
    return gradient, hessian(loss, flat.detach())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("seed", range(3))
def test_the_extreme_curvatures_are_those_of_the_dense_hessian(seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    x, y = torch.randn(50, 3), torch.randn(50, 1)
    run = ended(model, (x, y), "mse")
    found = measure(run, run.the_problem())
    gradient, curvature = dense(model, x, y)
    values = torch.linalg.eigvalsh(curvature)
    assert found["lambda_max"] == pytest.approx(float(values[-1]), rel=0.02)
    assert abs(found["lambda_min"] - float(values[0])) <= 2 * found["lambda_min_residual"] + 1e-4
    assert found["grad_norm"] == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert found["loss"] == pytest.approx(
        float((model(x.double()) - y.double()).square().mean().detach()), rel=1e-5
    )


def test_a_quadratic_has_the_curvatures_of_its_inputs() -> None:
    deviations = torch.tensor([3.0, 1.0, 0.1])
    x = torch.linalg.qr(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)))[0]
    x = x * math.sqrt(60) * deviations
    run = ended(nn.Linear(3, 1, bias=False), (x, x.sum(1, keepdim=True)), "mse")
    found = measure(run, run.the_problem())
    assert found["lambda_max"] == pytest.approx(2 * 9.0, rel=1e-3)
    assert found["lambda_min"] == pytest.approx(2 * 0.01, abs=1e-3)


def test_a_saddle_has_the_negative_curvature_of_its_closed_form() -> None:
    """Of (a b - 1)^2 at a = b = 0 the Hessian is [[0, -2], [-2, 0]]."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for p in model.parameters():
        nn.init.zeros_(p)
    run = ended(model, (torch.ones(16, 1), torch.ones(16, 1)), "mse")
    found = measure(run, run.the_problem())
    assert found["grad_norm"] == 0
    assert found["lambda_min"] == pytest.approx(-2.0, rel=1e-4)
    assert found["lambda_max"] == pytest.approx(2.0, rel=1e-4)


def test_the_move_is_a_tenth_of_the_weights_or_of_rows_of_norm_1() -> None:
    small, large = nn.Linear(4, 9, bias=False), nn.Linear(4, 9, bias=False)
    nn.init.constant_(small.weight, 1e-6)
    nn.init.constant_(large.weight, 2.0)
    data = (torch.randn(20, 4), torch.randn(20, 9))
    for model, reach in ((small, 0.1 * 3.0), (large, 0.1 * 12.0)):
        run = ended(model, data, "mse")
        assert measure(run, run.the_problem())["reach"] == pytest.approx(reach, rel=1e-5)


def test_dropout_is_off_while_the_ground_is_measured() -> None:
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.9), nn.Linear(8, 1))
    run = ended(model, (torch.randn(30, 3), torch.randn(30, 1)), "mse")
    x, y = run.the_problem().train_source.batch  # type: ignore[attr-defined]
    plain = float((model.eval()(x) - y).square().mean().detach())
    assert measure(run, run.the_problem())["loss"] == pytest.approx(plain, rel=1e-5)
