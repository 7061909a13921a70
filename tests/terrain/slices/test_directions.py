"""Directions against the paper's formula, what rescaling must leave alone, and the bias of peers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError
from downslope.terrain.ground import ground_of
from downslope.terrain.hvp import unflat
from downslope.terrain.slices.directions import filters, random_directions, roles_of


def problem(model: nn.Module, *shape: int) -> ds.Problem:
    torch.manual_seed(0)
    return ds.Problem(
        model=model, objective="cross_entropy", train=(torch.randn(40, *shape), torch.randint(3, (40,)))
    )


def convolutional() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, groups=2), nn.Flatten(),
        nn.Linear(294, 3),
    )  # fmt: skip


def layered(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))


def pieces(model: nn.Module, *shape: int, **options) -> tuple[dict[str, torch.Tensor], ...]:
    ground = ground_of(problem(model, *shape), model)
    found = random_directions(ground, 2, **options)
    return tuple(dict(zip(ground.names, unflat(each.vector, ground.params), strict=True)) for each in found)


def test_each_filter_is_as_long_as_the_models_own_and_biases_and_norms_stay() -> None:
    model = convolutional()
    for found in pieces(model, 1, 8, 8):
        own = dict(model.named_parameters())
        for name in ("0.weight", "5.weight"):
            lengths = found[name].flatten(1).norm(dim=1)
            assert torch.allclose(lengths, own[name].detach().flatten(1).norm(dim=1), rtol=1e-5)
        swapped, mine = found["3.weight"], own["3.weight"].detach()  # (in, out a group, k, k), two groups
        for group in (slice(0, 2), slice(2, 4)):
            for out in range(3):
                assert float(swapped[group, out].norm()) == pytest.approx(
                    float(mine[group, out].norm()), rel=1e-5
                )
        for name in ("0.bias", "1.weight", "1.bias", "3.bias", "5.bias"):
            assert not found[name].any()


def test_directions_point_nowhere_on_average_and_are_orthogonal() -> None:
    """Those of loss-landscapes are drawn from [0, 1]: their cosine with all ones is .87."""
    model = layered()
    first, second = (torch.cat([each.reshape(-1) for each in d.values()]) for d in pieces(model, 5))
    moved = first != 0
    ones = torch.ones(int(moved.sum()))
    cosine = torch.nn.functional.cosine_similarity
    assert abs(float(cosine(first[moved], ones, dim=0))) < 3.5 / len(ones) ** 0.5
    assert abs(float(cosine(first, second, dim=0))) < 1e-5
    assert float(cosine(torch.rand(1000), torch.ones(1000), dim=0)) > 0.8


def test_rescaling_two_relu_layers_leaves_the_normalised_slice_as_it_was() -> None:
    model = layered()
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled[0].weight.mul_(10)
        scaled[0].bias.mul_(10)
        scaled[2].weight.div_(10)
    task = problem(model, 5)
    options = {"points": 7, "progress": False, "exact": True, "dtype": torch.float64}
    kept = [ds.landscape(task, each, **options).values for each in (model, scaled)]
    assert torch.allclose(*map(torch.from_numpy, kept), rtol=1e-6)
    bare = [ds.landscape(task, each, normalise="none", **options).values for each in (model, scaled)]
    assert abs(bare[0] - bare[1]).max() > 0.1


@pytest.mark.parametrize("normalise", ["layer", "model", "none"])
def test_other_lengths_are_those_of_the_tensor_or_the_model(normalise: str) -> None:
    model = layered()
    found = pieces(model, 5, normalise=normalise)[0]
    own = {name: p.detach() for name, p in model.named_parameters()}
    if normalise == "layer":
        assert float(found["2.weight"].norm()) == pytest.approx(float(own["2.weight"].norm()), rel=1e-5)
        return
    whole = [name for name in own if normalise == "none" or "weight" in name]
    length = sum(float(own[name].norm()) ** 2 for name in whole) ** 0.5
    assert sum(float(each.norm()) ** 2 for each in found.values()) ** 0.5 == pytest.approx(length, rel=1e-5)
    assert bool(found["0.bias"].any()) == (normalise == "none")


def test_layers_move_alone_and_zeros_are_told() -> None:
    model = layered()
    found = pieces(model, 5, layers=["2"])[0]
    assert not found["0.weight"].any()
    assert found["2.weight"].any()
    nn.init.zeros_(model[2].weight)
    notes: list[str] = []
    ground = ground_of(problem(model, 5), model)
    random_directions(ground, 1, notes=notes)
    assert "3 filters of zeros" in notes[0]
    with pytest.raises(InputError, match="no parameter of '7'"):
        random_directions(ground, 1, layers=["7"])
    with pytest.raises(InputError, match="every weight that would move is zero"):
        random_directions(ground, 1, layers=["2.weight"])


def test_a_bare_vector_is_one_filter() -> None:
    ground = ground_of(ds.functions.get("beale").problem(), dtype=torch.float64)
    assert filters(ground.params[0], roles_of(ground)[0]).shape == (1, 2)
    assert float(random_directions(ground, 1)[0].vector.norm()) == pytest.approx(2**0.5)
