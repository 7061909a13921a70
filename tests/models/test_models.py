"""Factories: shapes, the arguments that can be tuned, and what they refuse."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from downslope.core import names
from downslope.core.errors import ModelError
from downslope.models import cnn, linear, logistic, mlp, softmax
from downslope.models.parts import ACTIVATIONS


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("factory", [linear, logistic, softmax])
def test_regressions_are_one_affine_map(factory):
    model = factory(5, 3)
    assert parameters(model) == 5 * 3 + 3
    x, y = torch.randn(2, 5), torch.randn(2, 5)
    torch.testing.assert_close(model(x) + model(y) - model(torch.zeros(2, 5)), model(x + y))


def test_every_named_model_resolves_and_gives_fresh_parameters():
    for name in names.TABLE["model"]:
        factory = names.resolve("model", name)
        images = "channels" in inspect.signature(factory).parameters
        arguments = (1, 16, 3) if images else (8,) if name in ("autoencoder", "vae") else (8, 3)
        more = {"heads": {"a": 3}, "inputs": 8} if name == "multi_task" else {}
        arguments = ("mlp",) if more else arguments
        first, second = factory(*arguments, **more), factory(*arguments, **more)
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        assert not any(torch.equal(p, q) for p, q in pairs if p.dim() > 1)  # a norm's start is no draw


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_an_mlp_has_the_units_it_was_given(depth, norm):
    model = mlp(6, 4, width=10, depth=depth, norm=norm, dropout=0.2)
    maps = [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)]
    assert maps == list(zip([6] + [10] * depth, [10] * depth + [4], strict=True))
    norms = [m for m in model if isinstance(m, nn.BatchNorm1d | nn.LayerNorm)]
    assert len(norms) == (depth if norm else 0)
    assert sum(isinstance(m, nn.Dropout) for m in model) == depth
    assert model(torch.randn(5, 6)).shape == (5, 4)
    assert isinstance(model[-1], nn.Linear)


def test_flat_models_take_images():
    assert mlp(64, 10)(torch.randn(5, 1, 8, 8)).shape == (5, 10)
    assert softmax(64, 10)(torch.randn(5, 1, 8, 8)).shape == (5, 10)


@pytest.mark.parametrize("size", [8, 28, (9, 15)])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_a_cnn_takes_images_of_its_size(size, depth, norm):
    model = cnn(3, size, 7, width=4, depth=depth, norm=norm, dropout=0.1)
    shape = (size, size) if isinstance(size, int) else size
    assert model(torch.randn(2, 3, *shape)).shape == (2, 7)
    convolutions = [m.out_channels for m in model if isinstance(m, nn.Conv2d)]
    assert convolutions == [4 * 2**i for i in range(depth)]


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_can_be_replaced_by_its_name(name):
    for model in (mlp(8, 2, activation=name, depth=2), cnn(1, 8, 2, activation=name, depth=2)):
        kind = type(ACTIVATIONS[name]())
        places = [path for path, module in model.named_modules() if type(module) is kind]
        assert len(places) == 2
        model.set_submodule(places[0], nn.Identity())
        assert isinstance(model.get_submodule(places[0]), nn.Identity)


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: mlp(0, 3), "inputs=0"),
        (lambda: mlp(3, 3, width=-1), "width=-1"),
        (lambda: mlp(3, 3, width=2.5), r"width=2\.5"),
        (lambda: mlp(3, 3, depth=-1), "depth=-1"),
        (lambda: mlp(3, 3, activation="rellu"), "did you mean 'relu'"),
        (lambda: mlp(3, 3, dropout=1.0), r"dropout=1\.0"),
        (lambda: mlp(3, 3, norm="bach"), "'batch', 'layer'"),
        (lambda: cnn(1, 3, 10, depth=2), "at least 4 pixels"),
        (lambda: cnn(1, 8, 10, depth=0), "depth=0"),
        (lambda: softmax(4, 0), "outputs=0"),
    ],
)
def test_what_is_outside_its_domain_is_one_line(build, word):
    with pytest.raises(ModelError, match=word) as told:
        build()
    assert "\n" not in str(told.value)
