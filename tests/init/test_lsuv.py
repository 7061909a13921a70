"""LSUV: unit variance of every layer on the batch it was given, in one pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.errors import ModelError
from downslope.init import initialise, lsuv
from tests.init.test_initialise import seeded


def outputs(model: nn.Module, layers: list[nn.Module], x: torch.Tensor) -> list[float]:
    """The deviation of what each layer gives, by hooks of the test's own."""
    found: dict[nn.Module, float] = {}

    def hook(module, args, output):
        found.setdefault(module, output.double().std().item())

    handles = [layer.register_forward_hook(hook) for layer in layers]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [found[layer] for layer in layers]


def maps(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]


def deep(depth: int = 30, activation=nn.ReLU) -> nn.Sequential:
    inside = [each for _ in range(depth) for each in (nn.Linear(64, 64), activation())]
    return nn.Sequential(nn.Linear(20, 64), activation(), *inside, nn.Linear(64, 5))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU])
def test_every_layer_of_a_deep_network_has_unit_variance_on_the_batch(activation):
    model, x = deep(activation=activation), 7 + 3 * torch.randn(256, 20, generator=seeded())
    assert lsuv(model, seeded(), batch=x) == []
    assert outputs(model, maps(model), x) == pytest.approx([1.0] * 32, rel=1e-3)


def test_the_start_is_orthogonal_up_to_its_scale():
    model, x = deep(3), torch.randn(64, 20, generator=seeded())
    lsuv(model, seeded(), batch=x)
    singular = torch.linalg.svdvals(model[2].weight.detach())
    assert (singular.max() / singular.min()).item() == pytest.approx(1, abs=1e-4)


def test_convolutions_parametrised_tied_and_own_weights_are_scaled():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, groups=1)
            self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(4 * 144, 20))
            self.shared = nn.Linear(20, 20)
            self.head = nn.Linear(20, 3)

        def forward(self, x):
            x = functional.relu(self.up(functional.relu(self.conv(x)))).flatten(1)
            x = functional.relu(self.normed(x))
            return self.head(self.shared(functional.relu(self.shared(x))))

    model, x = Own(), torch.rand(40, 1, 8, 8, generator=seeded())
    assert lsuv(model, seeded(), batch=x) == []
    layers = [model.conv, model.up, model.normed, model.shared, model.head]
    assert outputs(model, layers, x) == pytest.approx([1.0] * 5, rel=1e-3)


def test_a_table_of_tokens_that_reads_out_as_well_keeps_its_size_and_the_others_are_scaled():
    x = torch.randint(0, 30, (16, 8), generator=seeded())
    model = ds.models.gpt(30, 8, width=16, depth=2, tied=True)
    lsuv(model, seeded(), batch=x)
    layers = {each.name: each for each in ds.init.measure(model, x).layers}
    assert layers["tokens"].output.std == pytest.approx(0.02, rel=0.3)
    assert layers["blocks.1.mlp.2"].output.std == pytest.approx(1, rel=1e-2)


def test_it_agrees_with_the_papers_loop_of_one_forward_pass_for_every_layer():
    x = torch.rand(128, 20, generator=seeded())
    model, slow = deep(6), deep(6)
    lsuv(model, seeded(), batch=x)
    initialise(slow, "orthogonal", seeded())
    for layer in maps(slow):
        with torch.no_grad():
            layer.weight.div_(outputs(slow, [layer], x)[0])
    for a, b in zip(model.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_stays_and_those_after_it_make_up_for_it():
    model, x = deep(2), torch.randn(256, 20, generator=seeded())
    model[2].requires_grad_(False)
    before = model[2].weight.clone()
    assert lsuv(model, seeded(), batch=x) == ["2.weight", "2.bias"]
    assert torch.equal(model[2].weight, before)
    assert outputs(model, [model[4]], x) == pytest.approx([1.0], rel=1e-3)


def test_through_a_recipe_it_looks_at_the_problems_data():
    digits = ds.data.digits(scale=1)  # raw grey values, 0 to 16
    problem = ds.Problem(
        model="mlp",
        objective="cross_entropy",
        train=digits.train,
        arguments={"depth": 6, "activation": "tanh"},
    )
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, init={"name": "lsuv", "examples": 400})
    model = problem.build(3, recipe.init)
    assert outputs(model, maps(model), digits.train[0]) == pytest.approx([1.0] * 7, rel=0.1)
    again, other = problem.build(3, recipe.init), problem.build(4, recipe.init)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model[1].weight, other[1].weight)


@pytest.mark.parametrize(
    ("settings", "batch", "said"),
    [
        ({}, None, "give a batch"),
        ({}, torch.zeros(9, 20), "the same for every example"),
        ({}, torch.full((9, 20), torch.inf), "not finite"),
        ({}, torch.randn(9, 3), "cannot take the batch"),
        ({"tolerance": 0.0}, torch.randn(9, 20), "tolerance=0.0"),
        ({"tries": 0}, torch.randn(9, 20), "tries=0"),
        ({"scale": -1.0}, torch.randn(9, 20), "scale=-1.0"),
        ({"examples": 1}, torch.randn(9, 20), "examples=1"),
    ],
)
def test_what_cannot_be_scaled_is_told_in_one_line(settings, batch, said):
    with pytest.raises(ModelError, match=said) as told:
        lsuv(deep(2), seeded(), batch=batch, **settings)
    assert "\n" not in str(told.value)
