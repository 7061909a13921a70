"""What is measured of a start, beside hooks and gradients taken by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import InputError
from downslope.init import measure
from tests.init.test_initialise import seeded


def digits(**arguments):
    data = ds.data.digits(scale=16)
    return ds.Problem(model="mlp", objective="cross_entropy", train=data.train, arguments=arguments)


def test_activations_and_gradients_are_those_that_hooks_see():
    problem = digits(depth=3, width=20, activation="tanh")
    x, y = (each[:64] for each in problem.train.batch)
    found = measure(problem, (x, y), init="xavier", seed=5)
    model = problem.build(5, "xavier")
    inside: dict[int, torch.Tensor] = {}

    def kept(module, args, output):
        output.requires_grad_().retain_grad()
        inside[list(model).index(module)] = output

    for module in list(model)[1:]:
        module.register_forward_hook(kept)
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    assert found.loss == pytest.approx(loss.item())
    assert [each.name for each in found.layers] == ["1", "3", "5", "7"]
    assert [each.activation for each in found.layers] == ["tanh", "tanh", "tanh", None]
    for each in found.layers:
        i = int(each.name)
        assert each.output.std == pytest.approx(inside[i].std(correction=0).item(), rel=1e-5)
        assert each.gradient.std == pytest.approx(inside[i].grad.std(correction=0).item(), rel=1e-5)
        assert each.weight_gradient.rms == pytest.approx(
            model[i].weight.grad.square().mean().sqrt().item(), rel=1e-5
        )
        if each.activation:
            assert each.after.mean == pytest.approx(inside[i + 1].mean().item(), abs=1e-6)
            share = (inside[i + 1].abs() > 0.98).double().mean().item()
            assert each.after.saturated == pytest.approx(share)
    assert found.layers[-1].after is found.layers[-1].output


def test_shares_at_zero_and_saturated_and_the_histogram_of_known_values():
    class Known(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.eye(4))

        def forward(self, x):
            return torch.sigmoid(100 * functional.relu(x @ self.w))

    x = torch.tensor([[-1.0, -1.0, 1.0, 3.0]] * 10)
    layer = measure(Known(), x).layers[0]
    assert (layer.name, layer.kind, layer.activation) == ("w", "matmul 4x4", "relu")
    assert layer.after.zero == 0.5
    assert layer.output.mean == 0.5
    assert layer.gradient is None
    density, edges = layer.after.histogram(3, (0.0, 3.0))
    np.testing.assert_allclose(density, [0.5, 0.25, 0.25])
    logs, edges = layer.after.histogram(1, (-1.0, 1.0), log=True)
    assert logs[0] * (edges[1] - edges[0]) == pytest.approx(1)


def test_what_overflows_is_left_out_of_the_numbers_and_told():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    layer = measure(model, torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])).layers[0]
    assert layer.output.finite == 0.5
    assert layer.output.mean == 0


def test_the_model_and_the_random_stream_stay_as_they_were():
    model = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
    ).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    x = torch.randn(20, 4, generator=seeded())
    found = measure(model, (x, torch.zeros(20, dtype=torch.long)), objective="cross_entropy", init="he")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training
    assert len(found.layers) == 2
    assert found.examples == 20


def test_convolutions_attention_and_recurrence_are_measured():
    image = ds.models.cnn(1, 8, 3)
    x = torch.rand(6, 1, 8, 8, generator=seeded())
    assert [each.activation for each in measure(image, x).layers] == ["relu", "relu", None]
    for make in (ds.models.lstm, ds.models.gru, ds.models.rnn, ds.models.transformer):
        layers = measure(make(5, 3), (torch.randn(6, 4, 5), torch.zeros(6, dtype=torch.long)),
                         objective="cross_entropy").layers  # fmt: skip
        assert layers
        assert all(math.isfinite(each.gradient.std) and each.gradient.std > 0 for each in layers)


def test_it_prints_a_row_for_each_layer():
    lines = str(measure(digits(depth=2), init={"name": "normal", "std": 1.0})).splitlines()
    assert lines[0].startswith("init normal(std=1.0), 512 examples, loss ")
    assert [line.split()[0] for line in lines[1:]] == ["layer", "1", "3", "5"]
    assert "%" in lines[2]


def test_a_start_that_looks_at_data_is_measured_too():
    found = measure(digits(depth=5), init="lsuv")
    assert [each.output.std for each in found.layers] == pytest.approx([1] * 6, rel=0.15)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: measure(nn.Linear(3, 2)), "give measure"),
        (lambda: measure(nn.Linear(3, 2), torch.randn(5, 4)), "cannot take the batch"),
        (lambda: measure(digits(), examples=1), "examples=1"),
        (lambda: measure(digits(), init="hee"), "did you mean"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(call, said):
    with pytest.raises(InputError, match=said) as told:
        call()
    assert "\n" not in str(told.value)
