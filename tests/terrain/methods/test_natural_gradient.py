"""The natural gradient follows the prediction, however the parameters are written."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.errors import ObjectiveError
from downslope.terrain.methods.natural_gradient import NaturalGradient
from tests.terrain.methods.grounds import ground


class Mixed(nn.Module):
    """A two-layer network whose first weights are ``M theta`` of its parameters."""

    def __init__(self, mix: Tensor) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        weight = torch.randn(12, generator=draw).double()
        self.mix = mix
        self.theta = nn.Parameter(torch.linalg.solve(mix, weight))
        self.last = nn.Parameter(torch.randn(4, 3, generator=draw).double())

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ (self.mix @ self.theta).reshape(3, 4)) @ self.last


def trajectory(mix: Tensor, method: type[torch.optim.Optimizer], **settings: float) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 3, generator=draw).double(), torch.randn(60, 3, generator=draw).double()
    model = Mixed(mix)
    optimizer, seen = method(model.parameters(), **settings), []  # type: ignore[call-arg]
    for _ in range(5):
        if isinstance(optimizer, NaturalGradient):
            optimizer.step(ground(model, "squared_error", (x, y)))
        else:
            optimizer.zero_grad()
            functional.mse_loss(model(x), y).backward()
            optimizer.step()
        seen.append(model(x).detach())
    return torch.stack(seen)


def test_a_linear_change_of_the_weights_changes_no_output_on_the_way() -> None:
    draw = torch.Generator().manual_seed(1)
    mix = torch.randn(12, 12, generator=draw).double() + 4 * torch.eye(12, dtype=torch.float64)
    eye = torch.eye(12, dtype=torch.float64)
    natural = {"lr": 0.5, "damping": 0.0, "kl": 0.05}
    one, other = (trajectory(each, NaturalGradient, **natural) for each in (eye, mix))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    plain = [trajectory(each, torch.optim.SGD, lr=0.1) for each in (eye, mix)]
    assert (plain[0] - plain[1]).abs().max() > 0.05


def test_conjugate_gradients_give_the_dense_direction() -> None:
    moves = []
    for solver in ("dense", "cg"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        on = ground(model, "squared_error", (torch.randn(20, 3).double(), torch.randn(20, 2).double()))
        before = on.where()
        NaturalGradient(model.parameters(), damping=1e-2, solver=solver, tol=1e-12, max_cg=None).step(on)
        moves.append(on.where() - before)
    torch.testing.assert_close(moves[0], moves[1], rtol=1e-8, atol=1e-12)


def test_the_prediction_changes_by_what_the_trust_region_allows() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(200, 5).double(), torch.randint(0, 4, (200,))
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    before = model(x).log_softmax(1).detach()
    method = NaturalGradient(model.parameters(), lr=100.0, damping=1e-4, kl=1e-6)
    method.step(ground(model, "cross_entropy", (x, y)))
    after = model(x).log_softmax(1).detach()
    divergence = (before.exp() * (before - after)).sum(1).mean().item()
    assert divergence == pytest.approx(1e-6, rel=0.1)


def test_the_empirical_fisher_is_told_as_such_and_goes_elsewhere() -> None:
    ends, said = [], []
    for fisher in ("true", "empirical"):
        torch.manual_seed(0)
        x, y = torch.randn(40, 3).double(), torch.randint(0, 3, (40,))
        model = nn.Linear(3, 3).double()
        on = ground(model, "cross_entropy", (x, y))
        method = NaturalGradient(model.parameters(), fisher=fisher)
        method.step(on)
        ends.append(on.where())
        said.append(method.last.said if method.last else "")
    assert (ends[0] - ends[1]).norm() > 1e-3
    assert said[0] == ""
    assert "empirical" in said[1]


def test_an_objective_that_is_no_likelihood_is_refused_with_what_is_allowed() -> None:
    model = nn.Linear(3, 1)
    on = ground(model, lambda out, y: (out[:, 0] - y).abs().mean(), (torch.randn(8, 3), torch.randn(8)))
    with pytest.raises(ObjectiveError, match="empirical"):
        NaturalGradient(model.parameters()).step(on)
