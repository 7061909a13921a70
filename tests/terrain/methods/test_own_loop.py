"""Loops of one's own with methods that look into the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import InputError, ModelError

LOOKERS = ["GaussNewton", "LevenbergMarquardt", "HessianFree", "NaturalGradient", "KFAC"]


def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=draw, dtype=torch.float64)
    return x, (x[:, :3] @ torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64) > 0).long()


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def smoothed(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, label_smoothing=0.1)


@pytest.mark.parametrize(
    ("given", "own"),
    [
        ("cross_entropy", functional.cross_entropy),
        (functional.cross_entropy, functional.cross_entropy),
        (nn.CrossEntropyLoss(), functional.cross_entropy),
        (smoothed, smoothed),
        (
            lambda output, target: smoothed(output, target) * 2,
            lambda output, target: 2 * smoothed(output, target),
        ),
    ],
    ids=["name", "function", "module", "own", "lambda"],
)
def test_the_ground_of_a_batch_has_the_loss_and_slope_of_plain_torch(given: Any, own: Any) -> None:
    model, (x, y) = net(), data()
    value, slope = ds.methods.ground(model, given, (x, y)).slope()
    loss = own(model(x), y)
    wanted = torch.cat([each.reshape(-1) for each in torch.autograd.grad(loss, [*model.parameters()])])
    assert value == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(slope, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LOOKERS)
def test_methods_that_look_into_the_model_train_a_net_in_a_loop_of_ones_own(name: str) -> None:
    model, (x, y) = net(), data()
    optimizer = getattr(ds.methods, name)(model.parameters())
    first = functional.cross_entropy(model(x), y).item()
    for step in range(12):
        optimizer.zero_grad()
        optimizer.step(ds.methods.ground(model, functional.cross_entropy, (x, y), seed=step))
    assert functional.cross_entropy(model(x), y).item() < 0.8 * first


def test_a_closure_is_answered_with_the_line_that_works() -> None:
    model, (x, y) = net(), data()
    with pytest.raises(ModelError, match=r"ds\.methods\.ground\(model, objective, batch\)"):
        ds.methods.KFAC(model.parameters()).step(lambda: functional.cross_entropy(model(x), y))


def test_what_is_maximised_is_gone_up_on() -> None:
    model, (x, y) = net(), data()
    up, _ = ds.methods.ground(model, functional.cross_entropy, (x, y), maximize=True).slope()
    assert up == pytest.approx(-functional.cross_entropy(model(x), y).item(), rel=1e-12)


def test_a_batch_may_be_a_dict() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = net()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    model, (x, y) = Named(), data()
    value, _ = ds.methods.ground(model, "cross_entropy", {"x": x, "labels": y}).slope()
    assert value == pytest.approx(functional.cross_entropy(model(x), y).item(), rel=1e-12)


def test_an_objective_that_is_neither_a_name_nor_a_function_is_refused() -> None:
    with pytest.raises(InputError, match="objective"):
        ds.methods.ground(net(), 3, data())  # pyright: ignore[reportArgumentType]


def test_a_search_that_fails_in_a_loop_of_ones_own_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(torch.autograd.Function):
        """A square whose gradient points up."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return (x**2).sum()

        @staticmethod
        def backward(ctx: Any, *slopes: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return -2 * x * slopes[0]

    point = nn.Parameter(torch.ones(2, dtype=torch.float64))
    method = ds.methods.LBFGS([point])
    for _ in range(5):
        method.step(lambda: Wrong.apply(point))
    said = [each.getMessage() for each in caplog.records]
    assert len(said) == len(set(said)) == 1
    assert said[0].startswith("LBFGS: ")
    assert "no point below" in said[0]
