"""Hessian-free optimisation: its rule to stop, its way back, its damping, and deep networks."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError, RecipeError
from downslope.terrain.methods.hessian_free import HessianFree, ended, squared_gradients
from tests.terrain.methods.grounds import ground, steps


def deep(seed: int = 0, width: int = 12, depth: int = 6) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 2)).double()


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 12, generator=draw).double()
    return x, torch.stack([(x[:, 0] * x[:, 1]).tanh(), x[:, 2]], 1)


def test_a_convex_quadratic_is_solved_as_damping_falls() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4).double(), torch.randn(30, 1).double()
    model = nn.Linear(4, 1).double()
    on = ground(model, "squared_error", (x, y))
    method = HessianFree(model.parameters(), damping=1.0, tol=1e-12)
    steps(method, on, 30)
    _, gradient = on.slope()
    assert gradient.norm() < 1e-8
    assert method.memory["damping"] < 0.05


def test_the_rule_ends_a_solve_where_the_quadratic_stops_falling() -> None:
    """Martens 2010, section 4.4, on hand-made values: k = 10 of the last 11, or a tenth."""
    falling = [-1.0 - i for i in range(20)]
    assert not ended(falling, 5e-4)
    assert not ended([*falling, falling[-1]], 5e-4)  # one flat product is no end
    level = [*falling, *[-20.0 - 1e-4 * i for i in range(12)]]
    assert ended(level, 5e-4)
    assert not ended([1.0] * 30, 5e-4)


def test_damping_rises_where_the_model_promised_too_much() -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.full((1,), 3.0, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sin(4 * self.w) * x  # the linear model is right for a tenth of its step

    model = Steep()
    x = torch.ones(3, 1, dtype=torch.float64)
    method = HessianFree(model.parameters(), damping=1e-6, precondition=0.0)
    method.step(ground(model, "squared_error", (x, 3 * x)))
    assert method.memory["damping"] == pytest.approx(1.5e-6)


def test_squares_of_gradients_of_random_signs_are_those_of_the_examples_in_the_mean() -> None:
    model = nn.Linear(3, 2).double()
    torch.manual_seed(0)
    x, y = torch.randn(40, 3).double(), torch.randint(0, 2, (40,))
    on = ground(model, "cross_entropy", (x, y))
    place = torch.Generator().manual_seed(0)
    operator, like = on.gauss_newton(), on.where()
    found = torch.stack([squared_gradients(operator, like, place) for _ in range(100)]).mean(0)
    rows = []
    for i in range(40):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    truth = torch.stack(rows).square().mean(0)
    torch.testing.assert_close(found, truth, rtol=0.25, atol=0.0)


def test_ten_steps_go_lower_than_a_hundred_of_gradient_descent_with_momentum_at_its_best_rate() -> None:
    x, y = data()
    model = deep()
    method = HessianFree(model.parameters(), max_cg=80)
    reached = steps(method, ground(model, "squared_error", (x, y)), 11)[-1]
    others = []
    for lr in (0.1, 0.3, 1.0):
        model = deep()
        descent = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for _ in range(100):
            descent.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            descent.step()
        others.append(loss.item())
    assert reached < min(others)


@pytest.mark.parametrize("settings", [{"curvature": "hessian"}, {"share": 0.5}, {"precondition": 0.0}])
def test_every_way_goes_down_at_every_step(settings: dict[str, object]) -> None:
    model = deep(depth=2)
    method = HessianFree(model.parameters(), max_cg=30, **settings)  # type: ignore[arg-type]
    losses = steps(method, ground(model, "squared_error", data()), 6)
    assert all(b < a for a, b in itertools.pairwise(losses))
    assert losses[-1] < 0.5 * losses[0]


def test_a_closure_and_no_damping_are_refused() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(ModelError, match="hides the outputs"):
        HessianFree(model.parameters()).step(lambda: model(torch.ones(3, 2)).square().mean())
    with pytest.raises(RecipeError, match="damping=0"):
        HessianFree(model.parameters(), damping=0.0)
