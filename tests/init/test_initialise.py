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


def test_frozen_and_unknown_parameters_are_left_and_named():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Parameter(torch.ones(3, 3))
            self.frozen = nn.Linear(3, 3)
            self.free = nn.Linear(3, 3)

    model = Own()
    model.frozen.requires_grad_(False)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    left = initialise(model, "he", seeded())
    assert set(left) == {"own", "frozen.weight", "frozen.bias"}
    assert all(torch.equal(dict(model.named_parameters())[key], before[key]) for key in left)


@pytest.mark.parametrize(
    "wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_parametrised_weight_is_drawn_through_its_parametrisation(wrap):
    model = nn.Sequential(wrap(nn.Linear(200, 300)), nn.ReLU())
    assert initialise(model, "he", seeded()) == []
    plain = nn.Linear(200, 300)
    initialise(plain, "he", seeded())
    ratio = model.eval()[0].weight / plain.weight
    assert ratio.std() < 1e-4 * ratio.mean()  # spectral norm divides all by one number
    if wrap is nn.utils.parametrizations.weight_norm:
        torch.testing.assert_close(model[0].weight, plain.weight)


def test_a_parametrisation_that_cannot_hold_zeros_is_left_as_it_was_and_named():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    before = model.weight.detach().clone()
    left = initialise(model, "zeros")
    assert left == ["parametrizations.weight.original0", "parametrizations.weight.original1"]
    assert torch.equal(model.weight, before)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_older_weight_norm_is_drawn_too():
    model = nn.utils.weight_norm(nn.Linear(200, 300))
    assert initialise(model, "he", seeded()) == []
    model(torch.zeros(1, 200))
    assert has_variance(model.weight, 2 / 200)


def test_groups_of_a_convolution_are_maps_of_their_own():
    model = nn.Sequential(nn.Conv2d(64, 128, 3, groups=4), nn.ConvTranspose2d(128, 64, 3, groups=4))
    initialise(model, "xavier", seeded())
    assert has_variance(model[0].weight, 2 / (9 * (16 + 32)))
    assert has_variance(model[1].weight, 2 / (9 * (32 + 16)))
    initialise(model, "orthogonal", seeded())
    for block in model[0].weight.detach().chunk(4):
        torch.testing.assert_close(block.flatten(1) @ block.flatten(1).T, torch.eye(32), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_a_seed_means_the_same_weights_in_every_precision(dtype):
    wide, other = nn.Linear(30, 20), nn.Linear(30, 20, dtype=dtype)
    initialise(wide, "he", seeded())
    initialise(other, "he", seeded())
    assert other.weight.dtype == dtype
    torch.testing.assert_close(other.weight, wide.weight.to(dtype))


@pytest.mark.parametrize("name", ["he", "he_uniform", "xavier", "lecun", "normal"])
def test_a_complex_weight_has_the_variance_in_its_absolute_value(name):
    real, model = nn.Linear(300, 200), nn.Linear(300, 200, dtype=torch.complex64)
    initialise(real, name, seeded())
    initialise(model, name, seeded())
    size = model.weight.abs().square().mean().item()
    assert size == pytest.approx(real.weight.square().mean().item(), rel=0.05)
    assert model.weight.real.var().item() == pytest.approx(size / 2, rel=0.05)


def test_a_complex_orthogonal_weight_is_unitary():
    model = nn.Linear(30, 20, dtype=torch.complex128)
    initialise(model, "orthogonal", seeded())
    product = model.weight @ model.weight.mH
    torch.testing.assert_close(product.detach(), torch.eye(20, dtype=torch.complex128))


def test_whole_numbers_are_left_alone():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.arange(12).view(3, 4), requires_grad=False)
            self.map = nn.Linear(4, 4)

    model = Table()
    assert initialise(model, "auto", seeded()) == ["table"]
    assert model.table.sum() == 66


def test_constant_makes_all_units_of_a_recurrent_layer_alike():
    model = nn.RNN(5, 6)
    initialise(model, "constant", seeded())
    assert model.weight_hh_l0.unique().numel() == model.weight_ih_l0.unique().numel() == 1


def test_modules_by_name_are_drawn_alone_and_still_know_what_follows():
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 100))
    before = model[2].weight.detach().clone()
    assert initialise(model, "auto", seeded(), modules=["0"]) == []
    assert has_variance(model[0].weight, 2 / 200)
    assert torch.equal(model[2].weight, before)
    with pytest.raises(ModelError, match="whole model"):
        initialise(model, "lsuv", batch=torch.randn(4, 200), modules=["0"])


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
