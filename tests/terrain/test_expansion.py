"""The expansion of a step against dense Hessians, closed forms and the losses themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.expansion import along, expansion
from downslope.terrain.ground import Ground

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.sin(X.sum(1, keepdim=True))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1)).double()


PROBLEM = ds.Problem(model=net, objective="squared_error", train=(X, Y))


def dense(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of the mean squared error, by autograd, row by row."""
    model = model.eval()
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]

    def loss(flat: Tensor) -> Tensor:
        cut = [part.reshape(p.shape) for part, p in zip(flat.split(sizes), model.parameters(), strict=True)]
        return (functional_call(model, dict(zip(names, cut, strict=True)), (X,)) - Y).square().mean()

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    (gradient,) = torch.autograd.grad(loss(flat.requires_grad_()), flat)
    return gradient, hessian(loss, flat.detach())  # type: ignore[no-untyped-call]


def test_slope_and_curvature_are_those_of_the_dense_hessian() -> None:
    found = expansion(PROBLEM, net())
    g, curvature = dense(net())
    assert found.slope == pytest.approx(-float(g @ g), rel=1e-12)
    assert found.curvature == pytest.approx(float(g @ curvature @ g), rel=1e-10)
    assert found.limit == pytest.approx(2 * float(g @ g) / float(g @ curvature @ g), rel=1e-10)
    assert found.best == found.limit / 2
    assert "dropout" in str(found)


def test_of_a_quadratic_the_expansion_is_the_loss_at_any_rate() -> None:
    """And so the loss falls to just below the limit, and rises just beyond it."""
    model = nn.Linear(3, 1).double()
    own = PROBLEM.edit(model=lambda: model)
    found = expansion(own, model, lr=[0.0, 0.01, 1.0, 30.0])
    for step in found.steps:
        assert step.actual == pytest.approx(step.predicted, rel=1e-9, abs=1e-13)
    over, under = (expansion(own, model, lr=share * found.limit).steps[0].actual for share in (1.001, 0.999))
    assert under < 0 < over


def test_the_error_of_the_expansion_is_of_the_third_order() -> None:
    found = expansion(PROBLEM, net(), lr=[0.02, 0.04, 0.08])
    errors = [abs(step.actual - step.predicted) for step in found.steps]
    assert math.log2(errors[1] / errors[0]) == pytest.approx(3, abs=0.2)
    assert math.log2(errors[2] / errors[1]) == pytest.approx(3, abs=0.3)


def test_a_direction_of_ones_own_is_expanded_too() -> None:
    """The step of another method, as the difference of its weights."""
    before = net()
    after = net()
    optimizer = torch.optim.Adam(after.parameters(), lr=0.01)
    (after.eval()(X) - Y).square().mean().backward()
    optimizer.step()
    step = [b.detach() - a.detach() for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    found = expansion(PROBLEM, before, lr=1.0, direction=step)
    g, curvature = dense(net())
    flat = torch.cat([each.flatten() for each in step])
    assert found.steps[0].predicted == pytest.approx(float(g @ flat + flat @ curvature @ flat / 2), rel=1e-9)
    assert found.steps[0].actual == pytest.approx(
        float(((after(X) - Y).square().mean() - (before.eval()(X) - Y).square().mean()).detach()), rel=1e-9
    )


def test_the_model_stays_as_it_was() -> None:
    model = net().train()
    before = [p.detach().clone() for p in model.parameters()]
    expansion(PROBLEM, model, lr=[0.1, 1.0])
    assert model.training
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_what_is_maximised_is_expanded_as_it_is_gone_down_on() -> None:
    up = ds.Problem(model=net, objective=lambda z, y: -(z - y).square().mean(), train=(X, Y), maximize=True)
    one, other = expansion(PROBLEM, net(), lr=0.1), expansion(up, net(), lr=0.1)
    assert other.slope == pytest.approx(one.slope)
    assert other.steps[0].actual == pytest.approx(one.steps[0].actual)


@pytest.mark.parametrize(("bend", "limit"), [(1.0, 1.0), (-1.0, math.inf), (0.0, math.inf)])
def test_the_limit_goes_with_the_sign_of_the_curvature(bend: float, limit: float) -> None:
    """Of w + bend w^2 at 0 the slope is 1, the curvature 2 bend: a step of lr raises it beyond 1 / bend."""
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = along(Ground.of_closure(lambda: torch.sum(w + bend * w.square()), [w]))
    assert found.limit == limit
    assert (found.slope, found.curvature) == (-1.0, 2 * bend)
    assert str(found).count("\n") == 1 + len(found.steps) + 1


def test_at_a_minimum_there_is_no_step_to_foretell() -> None:
    w = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = along(Ground.of_closure(lambda: 1 + (w * w).sum(), [w]))
    assert (found.limit, found.steps) == (0.0, ())


def test_a_loss_that_is_not_finite_along_the_step_is_shown_as_such() -> None:
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    found = along(Ground.of_closure(lambda: 2 * w.log().sum(), [w]), lr=[0.2, 1.0])
    assert math.isfinite(found.steps[0].actual)
    assert math.isnan(found.steps[1].actual)
    assert "nan" in str(found)


def test_rates_and_directions_outside_their_domain_are_told() -> None:
    with pytest.raises(InputError, match="lr=-1"):
        expansion(PROBLEM, net(), lr=-1)
    with pytest.raises(InputError, match="3 numbers for 21"):
        expansion(PROBLEM, net(), direction=torch.ones(3))
