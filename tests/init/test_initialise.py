"""A whole model initialised by role: what is drawn, what is zero, and what is left alone."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn

from downslope.core.errors import ModelError, UnknownNameError
from downslope.init import initialise


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def has_variance(weight: torch.Tensor, wanted: float) -> bool:
    return abs(weight.var().item() / wanted - 1) < 6 * math.sqrt(2 / weight.numel())


def test_maps_are_drawn_biases_are_zero_and_norms_stay():
    model = nn.Sequential(
        nn.Conv2d(8, 40, 3), nn.BatchNorm2d(40), nn.ReLU(), nn.Flatten(), nn.Linear(160, 90)
    )
    with torch.no_grad():
        model[1].weight.fill_(0.7)
    left = initialise(model, "he", seeded())
    assert has_variance(model[0].weight, 2 / 72)
    assert has_variance(model[4].weight, 2 / 160)
    assert model[0].bias.abs().max() == model[4].bias.abs().max() == 0
    assert (model[1].weight == 0.7).all()
    assert left == ["1.weight", "1.bias"]


def test_a_transposed_convolution_has_its_fans_the_other_way_round():
    model = nn.ConvTranspose2d(60, 30, 3)
    initialise(model, "he", seeded())
    assert has_variance(model.weight, 2 / (60 * 9))


def test_auto_reads_the_activation_behind_each_layer():
    model = nn.Sequential(
        nn.Linear(200, 300), nn.LayerNorm(300), nn.ReLU(),
        nn.Linear(300, 200), nn.Dropout(0.1), nn.Tanh(),
        nn.Linear(200, 400), nn.SELU(),
        nn.Linear(400, 200),
        nn.Linear(200, 100),
    )  # fmt: skip
    initialise(model, "auto", seeded())
    wanted = {0: 2 / 200, 3: 2 / 500, 6: 1 / 200, 8: 2 / 600, 9: 2 / 300}
    assert [i for i, variance in wanted.items() if not has_variance(model[i].weight, variance)] == []


def test_auto_believes_a_sequential_in_which_no_activation_follows():
    model = nn.Sequential(nn.Linear(200, 300), nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU())
    initialise(model, "auto", seeded())
    wanted = {0: 2 / 500, 1: 2 / 300, 3: 2 / 200}
    assert [i for i, variance in wanted.items() if not has_variance(model[i].weight, variance)] == []


def test_auto_takes_the_one_activation_of_a_model_with_a_forward_of_its_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(200, 300), nn.Linear(300, 200), nn.Linear(200, 100)
            self.act = nn.ReLU()

    model = Own()
    initialise(model, "auto", seeded())
    assert has_variance(model.first.weight, 2 / 200)
    assert has_variance(model.second.weight, 2 / 300)
    assert has_variance(model.last.weight, 2 / 300)


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4), (nn.LSTMCell, 4)])
def test_recurrent_weights_are_orthogonal_gate_by_gate(kind, gates):
    model = kind(50, 40)
    initialise(model, "lecun", seeded())
    own = dict(model.named_parameters())
    hidden = next(p for key, p in own.items() if key.startswith("weight_hh"))
    inputs = next(p for key, p in own.items() if key.startswith("weight_ih"))
    for block in hidden.detach().chunk(gates):
        torch.testing.assert_close(block @ block.T, torch.eye(40), rtol=0, atol=1e-5)
    assert has_variance(inputs, 1 / 50)
    biases = torch.stack([p.detach() for key, p in own.items() if key.startswith("bias")]).sum(0)
    forget = torch.zeros(gates * 40)
    if gates == 4:
        forget[40:80] = 1
    assert torch.equal(biases, forget)


def test_attention_and_embeddings():
    model = nn.ModuleDict(
        {"words": nn.Embedding(400, 60, padding_idx=3), "mix": nn.MultiheadAttention(60, 4)}
    )
    assert initialise(model, "xavier", seeded()) == []
    assert model["words"].weight[3].abs().max() == 0
    assert has_variance(model["words"].weight[4:], 0.02**2)
    for block in model["mix"].in_proj_weight.chunk(3):
        assert has_variance(block, 2 / 120)
    assert model["mix"].in_proj_bias.abs().max() == 0
    assert has_variance(model["mix"].out_proj.weight, 2 / 120)


def test_zeros_are_zeros_everywhere_but_in_norms():
    model = nn.Sequential(nn.Embedding(9, 8), nn.LSTM(8, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    left = initialise(model, "zeros")
    assert left == ["2.weight", "2.bias"]
    drawn = [p for key, p in model.named_parameters() if key not in left]
    assert all(p.abs().max() == 0 for p in drawn)


def test_frozen_unknown_and_parametrised_parameters_are_left_and_named():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Parameter(torch.ones(3, 3))
            self.frozen = nn.Linear(3, 3)
            self.free = nn.Linear(3, 3)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))

    model = Own()
    model.frozen.requires_grad_(False)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    left = initialise(model, "he", seeded())
    assert set(left) == {
        "own", "frozen.weight", "frozen.bias",
        "normed.parametrizations.weight.original0", "normed.parametrizations.weight.original1",
    }  # fmt: skip
    assert all(torch.equal(dict(model.named_parameters())[key], before[key]) for key in left)


def test_tied_weights_are_drawn_once_and_stay_tied():
    words, out = nn.Embedding(30, 20), nn.Linear(20, 30, bias=False)
    out.weight = words.weight
    model = nn.Sequential(words, out)
    assert initialise(model, "he", seeded()) == []
    assert out.weight is words.weight
    assert words.weight.std() < 0.03


def test_a_seed_decides_and_a_function_serves_as_a_name():
    def sevens(weight, generator):
        weight.fill_(7)

    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    initialise(first, "he", seeded(1))
    initialise(second, "he", seeded(1))
    assert torch.equal(first.weight, second.weight)
    initialise(first, sevens)
    assert (first.weight == 7).all()


def test_unknown_names_and_lazy_parameters_are_one_line():
    with pytest.raises(UnknownNameError, match="xavier"):
        initialise(nn.Linear(2, 2), "xavierr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older torch warns that lazy modules may change
        lazy = nn.LazyLinear(3)
    with pytest.raises(ModelError, match="one batch"):
        initialise(lazy, "he")
