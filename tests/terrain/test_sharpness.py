"""Sharpness against exact curvature: linear regression, a small network, Rosenbrock, and Adam's scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.terrain import sharpness
from tests.terrain.test_hvp import OnceOnly, dense, functional_loss, net


def test_linear_regression_has_two_over_n_times_the_gram_matrix():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, k, generator=draw, dtype=torch.float64) for k in (6, 1))
    model = nn.Linear(6, 1, bias=False).double()
    wanted = torch.linalg.eigvalsh(2 / 50 * x.T @ x)[-1].item()
    found = sharpness(lambda: nn.functional.mse_loss(model(x), y), list(model.parameters()), tol=1e-9)
    assert found.value == pytest.approx(wanted, rel=1e-12)
    assert found.exact
    assert found.steps <= 6


def test_gradient_descent_diverges_just_above_two_over_it_and_not_just_below():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, k, generator=draw, dtype=torch.float64) for k in (6, 1))
    top = None
    for factor, diverges in ((0.99, False), (1.01, True)):
        model = nn.Linear(6, 1, bias=False).double()
        params = list(model.parameters())
        top = sharpness(lambda: nn.functional.mse_loss(model(x), y), params, tol=1e-9).value  # noqa: B023
        for _ in range(2000):
            (g,) = torch.autograd.grad(nn.functional.mse_loss(model(x), y), params)
            with torch.no_grad():
                params[0] -= factor * 2 / top * g
        assert (nn.functional.mse_loss(model(x), y).item() > 1e6) == diverges


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_has_the_top_of_its_dense_hessian(seed):
    model, x, y = net(seed=seed)
    wanted = torch.linalg.eigvalsh(dense(model, functional_loss(model, x, y)))[-1].item()
    params = list(model.parameters())
    fine = sharpness(lambda: nn.functional.cross_entropy(model(x), y), params, tol=1e-9, steps=43)
    assert fine.value == pytest.approx(wanted, rel=1e-10)
    rough = sharpness(lambda: nn.functional.cross_entropy(model(x), y), params)
    assert rough.status == "converged"
    assert rough.value == pytest.approx(wanted, rel=1e-3)
    assert abs(rough.value - wanted) <= rough.residual
    assert rough.steps <= 20


def test_single_precision_agrees_with_double():
    model, x, y = net()
    wanted = torch.linalg.eigvalsh(dense(model, functional_loss(model, x, y)))[-1].item()
    single, x = model.float(), x.float()
    found = sharpness(lambda: nn.functional.cross_entropy(single(x), y), list(single.parameters()), tol=1e-3)
    assert found.value == pytest.approx(wanted, rel=1e-4)


def test_the_scale_of_an_adaptive_step_preconditions_both_sides():
    model, x, y = net()
    draw = torch.Generator().manual_seed(4)
    params = list(model.parameters())
    scale = [10 * torch.rand(p.shape, generator=draw, dtype=torch.float64) for p in params]
    root = torch.cat([d.flatten() for d in scale]).sqrt()
    h = dense(model, functional_loss(model, x, y))
    wanted = torch.linalg.eigvalsh(root[:, None] * h * root)[-1].item()
    found = sharpness(lambda: nn.functional.cross_entropy(model(x), y), params, scale, tol=1e-8, steps=43)
    assert found.value == pytest.approx(wanted, rel=1e-9)
    # D^(1/2) H D^(1/2) is similar to D H: what an adaptive step multiplies the error by.
    assert torch.linalg.eigvals(root[:, None] ** 2 * h).real.max().item() == pytest.approx(wanted, rel=1e-9)


def test_frozen_parameters_take_no_part_with_or_without_a_scale():
    model, x, y = net()
    model[0].weight.requires_grad_(False)
    h = dense(model, functional_loss(model, x, y))[20:, 20:]
    params = list(model.parameters())
    scale = [torch.full_like(p, 2.0) for p in params]
    closure = lambda: nn.functional.cross_entropy(model(x), y)  # noqa: E731
    wanted = torch.linalg.eigvalsh(h)[-1].item()
    assert sharpness(closure, params, tol=1e-8).value == pytest.approx(wanted)
    assert sharpness(closure, params, scale, tol=1e-8).value == pytest.approx(2 * wanted)


def test_rosenbrock_at_its_minimum():
    p = nn.Parameter(torch.ones(2, dtype=torch.float64))
    found = sharpness(lambda: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2, [p], tol=1e-9)
    assert found.value == pytest.approx(1001.60064, abs=5e-6)
    upside_down = sharpness(lambda: -((1 - p[0]) ** 2) - 100 * (p[1] - p[0] ** 2) ** 2, [p], tol=1e-9)
    assert upside_down.value == pytest.approx(-0.399361, abs=5e-7)


def test_a_saddle_is_as_sharp_as_its_rising_direction():
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    assert sharpness(lambda: p[0] ** 2 - 5 * p[1] ** 2, [p]).value == pytest.approx(2)


def test_a_flat_loss_is_zero_and_a_non_finite_one_is_no_number():
    p = nn.Parameter(torch.ones(3))
    flat = sharpness(p.sum, [p])
    assert (flat.value, flat.residual, flat.status) == (0.0, 0.0, "exhausted")
    lost = sharpness(lambda: p.sum() * float("nan"), [p])
    assert math.isnan(lost.value)
    assert lost.status == "non-finite"
    # A finite loss and gradient over an infinite curvature.
    zero = nn.Parameter(torch.zeros(2))
    assert sharpness(lambda: zero.abs().pow(1.5).sum(), [zero]).status == "non-finite"


def test_without_a_second_derivative_the_value_is_still_right_and_says_so():
    p = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    found = sharpness(lambda: OnceOnly.apply(p).sum(), [p])
    assert found.value == pytest.approx(18, rel=1e-3)
    assert not found.exact


def test_the_answer_depends_on_the_generator_only():
    model, x, y = net()
    closure = lambda: nn.functional.cross_entropy(model(x), y)  # noqa: E731
    params = list(model.parameters())
    torch.manual_seed(5)
    first = sharpness(closure, params, steps=3)
    torch.manual_seed(6)
    assert sharpness(closure, params, steps=3) == first
    other = sharpness(closure, params, steps=3, generator=torch.Generator().manual_seed(9))
    assert other.value != first.value


@pytest.mark.parametrize(
    "options",
    [{"tol": 0.0}, {"tol": 1.0}, {"steps": 0}, {"scale": [torch.ones(2)]}, {"scale": [-torch.ones(3)]}],
)
def test_arguments_outside_their_domain_are_one_line(options):
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(InputError) as told:
        sharpness(lambda: p.square().sum(), [p], **options)
    assert "\n" not in str(told.value)
