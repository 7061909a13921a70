"""K-FAC: exact where theory says so, told where it is not, and the same after it was saved."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError, ObjectiveError, RecipeError
from downslope.terrain.kronecker import why_without
from downslope.terrain.methods.kfac import KFAC
from tests.terrain.methods.grounds import ground, steps


def ill_conditioned(n: int = 60) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=draw).double() * torch.logspace(0, -2, 6).double()
    return x, torch.randn(n, 3, generator=draw).double()


def test_one_exact_undamped_step_solves_linear_least_squares() -> None:
    x, y = ill_conditioned()
    model = nn.Linear(6, 3).double()
    method = KFAC(
        model.parameters(), lr=1.0, momentum=0.0, damping=1e-16, fisher="exact", kl_clip=float("inf")
    )
    method.step(ground(model, "squared_error", (x, y)))
    wanted = np.linalg.lstsq(np.column_stack([x.numpy(), np.ones(len(x))]), y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(model.weight.detach().numpy(), wanted[:6].T, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("eigenvalues", ["kronecker", "corrected"])
def test_an_ill_conditioned_network_converges_where_gradient_descent_crawls(eigenvalues: str) -> None:
    x, y = ill_conditioned()
    inputs = np.column_stack([x.numpy(), np.ones(len(x))])
    best = np.linalg.lstsq(inputs, y.numpy(), rcond=None)[1].sum() / y.numel()

    def make() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3)).double()

    model = make()
    method = KFAC(
        model.parameters(), lr=0.3, momentum=0.0, damping=1e-5, fisher="exact", kl_clip=1.0,
        inverse_every=1, eigenvalues=eigenvalues,
    )  # fmt: skip
    near = steps(method, ground(model, "squared_error", (x, y)), 40)[-1] - best
    others = []
    for lr in (0.1, 0.3, 1.0):
        model = make()
        descent = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for _ in range(40):
            descent.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            descent.step()
        others.append(loss.item() - best)
    assert near < 0.02 * min(others)


class Zoo(nn.Module):
    """Every kind of parameter: embedding tied to the output, norm, convolution, recurrence, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.LayerNorm(8)
        self.cell = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.twice = nn.Linear(8, 8)
        self.around = nn.Linear(8, 8)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embed.weight
        self.classes = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        h = self.conv(h.mT).mT
        h = torch.relu_(self.twice(self.norm(h)))
        h = self.twice(h) + nn.functional.linear(h, self.around.weight)
        h = h + self.cell(h)[0]
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.classes(h.mean(1)) + self.head(h).mean((1, 2))[:, None]


def zoo() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return Zoo(), (torch.randint(0, 7, (24, 5)), torch.randint(0, 3, (24,)))


def test_layers_that_are_tied_unlike_are_told_as_tied() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "scale": nn.LayerNorm(3)})
    model["b"].weight = model["a"].weight
    told = {name: why_without(model, p) for name, p in model.named_parameters()}
    assert told["a.weight"] == told["a.bias"] == told["b.bias"] == "tied, and not used alike in every place"
    assert told["scale.weight"] == "of no linear or convolution layer"


def test_what_has_no_block_has_its_diagonal_and_is_told() -> None:
    model, batch = zoo()
    method = KFAC(model.parameters())
    on = ground(model, "cross_entropy", batch)
    losses = steps(method, on, 1)
    assert method.last is not None
    assert "tied, and not used alike in every place: embed.weight;" in method.last.said
    assert "of no linear or convolution layer: norm.weight" in method.last.said
    losses += steps(method, on, 29)
    assert losses[-1] < 0.5 * losses[0]
    named = dict(model.named_parameters())
    blocks = {name for name, p in named.items() if "A" in method.state[p]}
    assert blocks == {"conv.weight", "twice.weight", "classes.weight"}
    diagonal = {name for name, p in named.items() if "diagonal" in method.state[p]}
    whole = {f"{each}.{kind}" for each in ("conv", "twice", "classes") for kind in ("weight", "bias")}
    assert diagonal == set(named) - whole
    assert not any(module._forward_hooks for module in model.modules())  # pyright: ignore[reportPrivateUsage]


def test_hooks_go_when_the_model_fails() -> None:
    model, batch = zoo()
    on = ground(model, "cross_entropy", batch)
    method = KFAC(model.parameters())
    method.step(on)
    model.norm = nn.LayerNorm(3)
    with pytest.raises(RuntimeError):
        method.step(ground(model, "cross_entropy", batch))
    assert not any(module._forward_hooks for module in model.modules())  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("settings", [{}, {"eigenvalues": "corrected"}, {"fisher": "empirical"}])
def test_a_saved_state_goes_on_with_the_same_bits(settings: dict[str, Any]) -> None:
    model, batch = zoo()
    method = KFAC(model.parameters(), inverse_every=3, **settings)
    steps(method, ground(model, "cross_entropy", batch), 4)
    held = [value for memory in method.state.values() for value in memory.values()]
    assert all(each.is_contiguous() for each in held if isinstance(each, Tensor))  # as a file gives them back
    twin = copy.deepcopy(model)
    other = KFAC(twin.parameters(), inverse_every=3, **settings)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    for each, optimizer in ((model, method), (twin, other)):
        steps(optimizer, ground(each, "cross_entropy", batch), 4)
    for one, another in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, another)


def test_the_clip_holds_the_length_of_a_step_in_the_fisher_metric() -> None:
    x, y = ill_conditioned()
    model = nn.Linear(6, 3).double()
    on = ground(model, "squared_error", (x, y))
    before, fisher = on.where(), on.fisher()
    KFAC(model.parameters(), lr=1.0, damping=1e-9, fisher="exact", kl_clip=1e-3).step(on)
    move = on.where() - before
    assert (move @ fisher.product(move)).item() == pytest.approx(1e-3, rel=0.02)


def test_frozen_parameters_stay_and_a_frozen_bias_has_no_column() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    method = KFAC([p for p in model.parameters() if p.requires_grad])
    steps(
        method, ground(model, "squared_error", (torch.randn(20, 4).double(), torch.randn(20, 2).double())), 3
    )
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.bias", "2.weight"}
    assert method.state[model[0].bias]["A"].shape == (1, 1, 1)
    assert method.state[model[2].weight]["A"].shape == (1, 5, 5)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_convolutions_learn_with_either_way_of_sharing(sharing: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(36, 3),
    )
    x = torch.randn(40, 1, 8, 8)
    y = (x.mean((1, 2, 3)) > 0).long() + (x[:, 0, 0, 0] > 1).long()
    losses = steps(KFAC(model.parameters(), sharing=sharing), ground(model, "cross_entropy", (x, y)), 25)
    assert losses[-1] < 0.3 * losses[0]


def test_a_step_needs_the_model_a_likelihood_and_damping() -> None:
    model = nn.Linear(3, 1)
    batch = (torch.randn(8, 3), torch.randn(8))
    with pytest.raises(ModelError, match="hides the outputs"):
        KFAC(model.parameters()).step(lambda: model(batch[0]).square().mean())
    own = ground(model, lambda out, y: (out[:, 0] - y).abs().mean(), batch)
    with pytest.raises(ObjectiveError, match=r"allowed are squared_error.* lbfgs or newton-cg"):
        KFAC(model.parameters()).step(own)
    KFAC(model.parameters(), fisher="empirical").step(own)
    with pytest.raises(RecipeError, match="damping=0"):
        KFAC(model.parameters(), damping=0.0)
    with pytest.raises(RecipeError, match="sharing='both'"):
        KFAC(model.parameters(), sharing="both")


def test_decay_is_part_of_the_curvature() -> None:
    """Exact and undamped, a linear layer lands on the minimum of loss and l2 term in one step."""
    x, y = ill_conditioned()
    model = nn.Linear(6, 3, bias=False).double()
    strength = 0.5
    method = KFAC(
        model.parameters(), lr=1.0, momentum=0.0, damping=1e-12, fisher="exact", kl_clip=math.inf,
        weight_decay=strength, eigenvalues="corrected",
    )  # fmt: skip
    on = ground(model, "squared_error", (x, y))
    method.step(on)
    share = 2 / y.numel()
    hessian = share * x.T @ x + strength * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(model.weight.detach(), torch.linalg.solve(hessian, share * x.T @ y).T)
