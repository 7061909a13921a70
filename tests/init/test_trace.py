"""What a traced forward pass knows: what reads each weight, in forwards of any kind."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from downslope.init import initialise
from downslope.init.trace import trace
from tests.init.test_initialise import has_variance, seeded


class Functional(nn.Module):
    """Activations as functions, each another one, and a matrix of its own on the right of a product."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(200, 300), nn.Linear(300, 200)
        self.third, self.last = nn.Linear(200, 250), nn.Linear(150, 100)
        self.own = nn.Parameter(torch.empty(250, 150).normal_())
        self.given = nn.Parameter(torch.empty(120, 100).normal_())

    def forward(self, x):
        x = functional.relu(self.first(x))
        x = torch.tanh(self.second(x))
        x = self.third(x).relu_()
        x = functional.leaky_relu(x @ self.own, 0.5)
        return functional.linear(self.last(x), self.given).clamp(min=0)


def functions_after(model, batch):
    traced = trace(model, batch)
    readers = traced.readers()
    names = {id(p): name for name, p in model.named_parameters()}
    after = [traced.activation_after(op, readers) for op in traced.maps]
    return {
        names[id(op.weights[0])]: None if found is None else found.function
        for op, found in zip(traced.maps, after, strict=True)
    }


def test_activations_called_as_functions_are_seen():
    assert functions_after(Functional(), torch.randn(2, 200)) == {
        "first.weight": "relu", "second.weight": "tanh", "third.weight": "relu", "own": "leaky_relu",
        "last.weight": None, "given": None,
    }  # fmt: skip


def test_auto_with_a_batch_suits_each_weight_to_the_function_that_reads_it():
    model = Functional()
    assert initialise(model, "auto", seeded(), batch=torch.randn(2, 200)) == []
    assert has_variance(model.first.weight, 2 / 200)
    assert has_variance(model.second.weight, 2 / 500)
    assert has_variance(model.third.weight, 2 / 200)
    assert has_variance(model.own, 2 / (1.25 * 250))  # stored (in, out)
    assert has_variance(model.last.weight, 2 / 250)


def test_norms_dropout_pooling_and_sums_lie_between_a_weight_and_its_activation():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.two = (
                nn.Conv2d(3, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.Conv2d(3, 3, 1),
            )

        def forward(self, x):
            return functional.relu(functional.max_pool2d(x + self.two(self.norm(self.one(x))), 2))

    assert functions_after(Block(), torch.randn(2, 3, 8, 8)) == {"one.weight": None, "two.weight": "relu"}


def test_weights_are_seen_through_a_parametrisation_a_slice_and_a_transpose():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
            self.whole = nn.Parameter(torch.randn(9, 5))

        def forward(self, x):
            return torch.sigmoid(functional.silu(self.normed(x)) @ self.whole[:6].t())

    model = Own()
    found = functions_after(model, torch.randn(2, 4))
    assert found == {"normed.parametrizations.weight.original1": "silu", "whole": "sigmoid"}


def test_a_traced_pass_leaves_buffers_mode_and_randomness_alone():
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.ReLU(), nn.Linear(6, 2)
    ).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    trace(model, torch.randn(8, 4, generator=seeded()))
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_a_model_that_refuses_the_batch_is_read_by_the_order_of_its_modules():
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 100))
    initialise(model, "auto", seeded(), batch=torch.randn(2, 7))
    assert has_variance(model[0].weight, 2 / 200)


def test_attention_recurrence_and_embeddings_are_maps_of_the_trace():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.state = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.layer(self.state(self.words(x))[0]).mean(1))

    found = functions_after(Mixed(), torch.randint(0, 9, (2, 5)))
    assert found == {
        "words.weight": None, "state.weight_ih_l0": None, "layer.self_attn.in_proj_weight": None,
        "layer.linear1.weight": "gelu", "layer.linear2.weight": None, "head.weight": None,
    }  # fmt: skip
