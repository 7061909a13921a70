"""What the parts of a problem prove, and what keeps them from it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import downslope as ds
from downslope.core.errors import DataError, InputError

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=DRAW, dtype=torch.float64)
Y = 3 * torch.randn(60, 3, generator=DRAW, dtype=torch.float64)
LABELS = torch.randint(0, 3, (60,), generator=DRAW)


class Held(nn.Module):
    """A module of the user's own around a layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3).double()


def hooked() -> nn.Linear:
    layer = linear()
    layer.register_forward_hook(lambda module, given, output: output**2)
    return layer


def bent() -> nn.Linear:
    layer = linear()
    layer.forward = lambda x: nn.functional.linear(x, layer.weight, layer.bias) ** 2
    return layer


ALTERED: dict[str, Any] = {
    "weight norm": lambda: parametrizations.weight_norm(linear()),
    "spectral norm": lambda: parametrizations.spectral_norm(linear()),
    "hook": hooked,
    "forward of its own": bent,
    "pruned": lambda: prune.l1_unstructured(linear(), "weight", amount=2),
}


@pytest.mark.parametrize("inside", [Held, nn.Sequential, lambda layer: layer])
@pytest.mark.parametrize("name", ALTERED)
def test_a_class_proves_nothing_of_a_module_that_computes_something_else(name: str, inside: Any) -> None:
    problem = ds.Problem(model=inside(ALTERED[name]()), objective="squared_error", train=(X, Y.abs()))
    found = ds.convexity(problem)
    assert (found.convex, found.proved) in ((None, False), (False, True))
    with pytest.raises(InputError, match="known to be convex"):
        ds.solve(problem)


def test_a_layer_that_is_held_keeps_its_parametrization() -> None:
    frozen = parametrizations.weight_norm(linear())
    for p in frozen.parameters():
        p.requires_grad_(requires_grad=False)
    problem = ds.Problem(
        model=nn.Sequential(frozen, nn.Linear(3, 3).double()), objective="squared_error", train=(X, Y)
    )
    assert ds.convexity(problem).proved


def hooked_loss() -> nn.Module:
    loss = nn.MSELoss()
    loss.register_forward_hook(lambda module, given, output: -output)
    return loss


OUTSIDE: dict[str, tuple[Any, Tensor]] = {
    "shares below zero": (nn.CrossEntropyLoss(), Y),
    "class weight below zero": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)), LABELS,
    ),
    "weight of the yes below zero": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(-2.0, dtype=torch.float64)), (Y > 0).double(),
    ),
    "weighted yes of more than 1": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.2, dtype=torch.float64)), Y.abs(),
    ),
    "class weight of a hinge below zero": (
        nn.MultiMarginLoss(weight=torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)), LABELS,
    ),
    "hook of the loss": (hooked_loss(), Y),
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_loss_beyond_its_domain_is_not_proved_to_be_convex(name: str) -> None:
    objective, target = OUTSIDE[name]
    problem = ds.Problem(model=linear(), objective=objective, train=(X, target))
    found = ds.convexity(problem)
    assert (found.convex, found.proved) in ((None, False), (False, True))
    terrain = ds.survey(problem, progress=False)
    assert terrain.convexity is not None
    assert not terrain.convexity.convex
    with pytest.raises(InputError):
        ds.solve(problem)


def test_shares_that_add_up_to_more_than_nothing_stay_convex_though_solve_refuses_them() -> None:
    """``J = s logsumexp(z) - t z`` is convex for any sum s of the shares above zero, and may have no end."""
    shares = torch.tensor([[1.5, -0.5, 0.0]], dtype=torch.float64).repeat(60, 1)
    for objective, target in ((nn.CrossEntropyLoss(), shares), (nn.BCEWithLogitsLoss(), Y)):
        problem = ds.Problem(model=linear(), objective=objective, train=(X, target))
        found = ds.convexity(problem)
        assert (found.convex, found.proved, found.minima) == (True, True, None)
        with pytest.raises(DataError, match="solve takes no others"):
            ds.solve(problem)


def test_of_a_maximised_problem_the_reason_is_that_of_what_is_gone_down_on() -> None:
    cases: list[tuple[Any, str]] = [
        (lambda output, target: -(output - target).abs().max(), "minus objective"),
        ("squared_error", "minus squared error"),
    ]
    for objective, said in cases:
        problem = ds.Problem(model=linear(), objective=objective, train=(X, Y), maximize=True)
        found = ds.convexity(problem)
        assert not found.convex
        assert said in found.why
        assert "largest value" not in found.why
