"""muP: start and rates by role, the size of activations over widths, and where the best rate lies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import ModelError, RecipeError
from downslope.init import mup_recipe
from downslope.init.growth import growth
from tests.init.test_initialise import has_variance


def digits(width: int, **arguments):
    data = ds.data.digits(scale=16)
    return ds.Problem(
        model="mlp",
        objective="cross_entropy",
        train=data.train,
        arguments={"width": width, "depth": 2} | arguments,
    )


def test_the_start_has_table_3s_variances():
    model = digits(512).build(0, {"name": "mup", "base": {"width": 64}})
    assert has_variance(model[1].weight, 2 / 64)
    assert has_variance(model[3].weight, 2 / 512)
    assert has_variance(model[5].weight, 1 / 512 * 64 / 512)
    same = digits(64).build(0, {"name": "mup", "base": {"width": 64}})
    assert has_variance(same[5].weight, 1 / 64)


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [("adam", (1, 1 / 8, 1 / 8, 1)), ("sgd", (8, 1, 1 / 8, 8)), ("adamw", (1, 1 / 8, 1 / 8, 1))],
)
def test_the_rates_are_table_3s(optimizer, rates):
    recipe = mup_recipe(digits(512), ds.Recipe(optimizer=optimizer, lr=0.1, weight_decay=0.0), {"width": 64})
    assert recipe.init == {"name": "mup", "base": {"width": 64}}
    found = {name: group.settings["lr"] for group in recipe.groups for name in group.params}
    wanted = dict(zip(("1.weight", "3.weight", "5.weight", "1.bias"), rates, strict=True))
    for name, rate in wanted.items():
        assert found.get(name, 0.1) == pytest.approx(0.1 * rate)
    assert found.get("5.bias", 0.1) == 0.1  # of no width
    assert ds.Recipe.from_toml(recipe.to_toml()) == recipe


def test_an_edit_of_the_rate_keeps_the_ratios_and_decay_times_rate_stays():
    recipe = mup_recipe(digits(512), ds.Recipe(optimizer="adamw", lr=0.1, weight_decay=0.2), {"width": 64})
    for each in (recipe, recipe.edit(lr=0.4)):
        hidden = next(group for group in each.groups if "3.weight" in group.params)
        assert hidden.settings["lr"] == pytest.approx(each.lr / 8)
        assert hidden.settings["weight_decay"] == pytest.approx(8 * 0.2)
        bias = next(group for group in each.groups if "1.bias" in group.params)
        assert bias.settings["weight_decay"] == 0
    assert mup_recipe(digits(64), ds.Recipe(optimizer="adamw", weight_decay=0.2), {"width": 64}).groups == ()


def test_roles_of_convolutions_embeddings_attention_and_norms():
    class Mixed(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.words, self.positions = nn.Embedding(50, width), nn.Parameter(torch.zeros(7, width))
            self.layer = nn.TransformerEncoderLayer(width, 2, 4 * width, batch_first=True)
            self.up = nn.ConvTranspose1d(width, 3, 2)

    kinds = {each.name: each.kind for each in growth(Mixed(32), Mixed(8))}
    assert kinds["words.weight"] == kinds["positions"] == "input"
    assert kinds["layer.self_attn.in_proj_weight"] == kinds["layer.linear2.weight"] == "hidden"
    assert kinds["layer.norm1.weight"] == kinds["layer.linear1.bias"] == "input"
    assert kinds["up.weight"] == "output"
    assert kinds["up.bias"] == "fixed"
    assert {each.grown_out for each in growth(Mixed(32), Mixed(8)) if each.kind == "input"} == {4.0}


def trained_sizes(width: int, recipe: ds.Recipe) -> list[float]:
    """How far the outputs of the three layers have moved after a few steps, root mean square."""
    problem = digits(width)
    before = problem.build(recipe.seed, recipe.init)
    after = ds.fit(problem, recipe, folder=False, progress=False, observe=0).model("last")
    x = problem.train.batch[0][:200]
    pairs = zip(outputs(before, x), outputs(after, x), strict=True)
    return [(b - a).square().mean().sqrt().item() for a, b in pairs]


@torch.no_grad()
def outputs(model: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    found = []
    for module in model:
        x = module(x)
        if isinstance(module, nn.Linear):
            found.append(x.clone())
    return found


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.003), ("sgd", 0.05)])
def test_coordinate_check_the_change_of_each_layers_output_does_not_hang_on_the_width(optimizer, lr):
    """Yang et al. 2022, appendix D.1: after some steps every layer has moved by as much at any width."""
    plain = ds.Recipe(optimizer=optimizer, lr=lr, steps=4, batch_size=128, init="auto")
    widths = (64, 1024)
    ours = [trained_sizes(w, mup_recipe(digits(w), plain, {"width": 64})) for w in widths]
    usual = [trained_sizes(w, plain) for w in widths]
    for small, large in zip(*ours, strict=True):
        assert 0.4 < large / small < 2.5
    if optimizer == "adam":  # one rate for all: the deeper layers move by sqrt(n) or n times as much
        assert usual[1][-1] > 4 * usual[0][-1]
    else:  # and here the first layer stands still
        assert usual[1][0] < 0.5 * usual[0][0]


RATES = [2.0**k for k in range(-9, -2)]


def losses(width: int, *, mup: bool) -> list[float]:
    """The training loss after 40 steps, by learning rate."""
    problem, found = digits(width, depth=3), []
    for lr in RATES:
        recipe = ds.Recipe(optimizer="adam", lr=lr, steps=40, batch_size=128, init="auto", schedule="cosine")
        recipe = mup_recipe(problem, recipe, {"width": 32}) if mup else recipe
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0)
        found.append(run.summary["train_loss"])
    return [loss if math.isfinite(loss) else 1e9 for loss in found]


def test_the_best_rate_stays_over_the_width_and_with_one_rate_for_all_it_does_not():
    small, usual, ours = losses(32, mup=True), losses(512, mup=False), losses(512, mup=True)
    tuned = small.index(min(small))
    assert usual.index(min(usual)) <= tuned - 2  # a quarter, or less, of what was best at the base width
    assert abs(ours.index(min(ours)) - tuned) <= 1
    assert ours[tuned] < 1.3 * min(ours)
    assert usual[tuned] > 2 * min(usual)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, "adamw"),
        ({"groups": [{"ndim": 1, "lr": 0.1}]}, "of its own"),
        ({"optimizer": "torch.optim:Rprop"}, "has rates for"),
    ],
)
def test_what_has_no_rates_is_told_in_one_line(given, said):
    with pytest.raises(RecipeError, match=said) as told:
        mup_recipe(digits(64), ds.Recipe(**given), {"width": 8})
    assert "\n" not in str(told.value)


def test_models_without_a_base_or_of_another_depth_are_told_in_one_line():
    with pytest.raises(ModelError, match="must say the arguments"):
        digits(64).build(0, "mup")
    with pytest.raises(RecipeError, match="must say the arguments"):
        ds.Recipe(init={"name": "mup", "base": 3})
    with pytest.raises(ModelError, match="no argument 'breadth'"):
        digits(64).build(0, {"name": "mup", "base": {"breadth": 8}})
    with pytest.raises(ModelError, match="only the width"):
        digits(64).build(0, {"name": "mup", "base": {"depth": 1}})
