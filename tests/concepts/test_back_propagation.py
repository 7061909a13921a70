"""Back-propagation beside a recursion written by hand, finite differences, and a count of its operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import downslope as ds
from downslope.core.errors import ObjectiveError

DIGITS = ds.data.digits(scale=16)


def problem(**arguments: object) -> ds.Problem:
    size = {"width": 12, "depth": 2, "activation": "tanh"} | arguments
    return ds.Problem(model="mlp", objective="cross_entropy", train=DIGITS.train, arguments=size)


def test_the_gradient_is_the_backward_recursion_written_by_hand() -> None:
    model = problem().build(0).double()
    x, y = (DIGITS.train[0][:32].double(), DIGITS.train[1][:32])
    ds.objectives.cross_entropy(model(x), y).backward()
    layers = [each for each in model if isinstance(each, nn.Linear)]
    outputs = [x.numpy()]
    for layer in layers:
        z = outputs[-1] @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        outputs.append(z if layer is layers[-1] else np.tanh(z))
    scores = np.exp(outputs[-1] - outputs[-1].max(1, keepdims=True))
    delta = (scores / scores.sum(1, keepdims=True) - np.eye(10)[y.numpy()]) / len(x)
    for k in reversed(range(len(layers))):
        np.testing.assert_allclose(layers[k].weight.grad, delta.T @ outputs[k], rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(layers[k].bias.grad, delta.sum(0), rtol=1e-9, atol=1e-14)
        if k:
            delta = (delta @ layers[k].weight.detach().numpy()) * (1 - outputs[k] ** 2)


@pytest.mark.parametrize(
    ("model", "objective", "data"),
    [
        ("mlp", "cross_entropy", ds.data.wine(standardise=True).train),
        ("softmax", "cross_entropy", ds.data.wine(standardise=True).train),
        ("mlp", "huber", ds.data.diabetes(standardise=True).train),
        ("linear", "squared_error", ds.data.diabetes(standardise=True).train),
    ],
)
def test_any_model_and_objective_pass_a_gradient_check(model: str, objective: str, data: object) -> None:
    size = {"width": 6, "activation": "tanh"} if model == "mlp" else {}
    checked = ds.Problem(model=model, objective=objective, train=data, arguments=size)
    module = checked.build(0).double()
    x, y = next(checked.train_source.stored(8))
    names = [name for name, _ in module.named_parameters()]

    def cost(*weights: torch.Tensor) -> torch.Tensor:
        output = torch.func.functional_call(module, dict(zip(names, weights, strict=True)), x.double())
        return checked.objective(output, y)

    assert torch.autograd.gradcheck(cost, tuple(module.parameters()))


@pytest.mark.parametrize("depth", [2, 8])
def test_the_whole_gradient_costs_two_forward_passes_more_however_deep(depth: int) -> None:
    model = problem(width=64, depth=depth).build(0)
    x, y = DIGITS.train[0][:32], DIGITS.train[1][:32]
    with FlopCounterMode(display=False) as forward:
        loss = ds.objectives.cross_entropy(model(x), y)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    ratio = backward.get_total_flops() / forward.get_total_flops()
    assert 1.5 <= ratio <= 2.0  # a little below 2, since the inputs need no gradient


class Cut(nn.Module):
    """A linear model whose output is cut off from its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).detach()


def right(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.argmax(1) == target).float().mean()


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param({"objective": right}, id="accuracy through argmax"),
        pytest.param({"model": Cut, "arguments": {}}, id="detach in the model"),
    ],
)
def test_what_passes_no_gradient_on_is_refused(cut: dict[str, object]) -> None:
    with pytest.raises(ObjectiveError, match=r"no gradient.*detach, argmax"):
        ds.fit(problem().edit(**cut), ds.Recipe(steps=1), folder=False, progress=False)
