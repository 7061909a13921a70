"""Groups of parameters as data: which parameters, what an edit does to them, and every misuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from downslope.core.adapted import Adapted, named_parameters
from downslope.core.errors import InputError, RecipeError
from downslope.core.groups import Group, assigned
from downslope.core.recipe import Recipe

LAYERWISE: list[dict[str, Any]] = [
    {"params": "backbone.*", "lr": 0.01},
    {"ndim": [0, 1], "weight_decay": 0.0},
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
        self.head = nn.Linear(8, 2)


class Own(torch.optim.SGD):
    pass


def places(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, int | None]:
    named = named_parameters(model)
    recipe = Recipe(optimizer="sgd", groups=groups)
    return {each[0][0]: place for each, place in zip(named, assigned(recipe.groups, named), strict=True)}


def recipe(**changes: Any) -> Recipe:
    return Recipe(**({"optimizer": "adamw", "lr": 0.1, "weight_decay": 0.2, "groups": LAYERWISE} | changes))


def test_the_first_group_that_fits_counts_and_the_rest_is_in_none() -> None:
    assert places(LAYERWISE, Net()) == {
        "backbone.0.weight": 0, "backbone.0.bias": 0, "backbone.1.weight": 0, "backbone.1.bias": 0,
        "head.weight": None, "head.bias": 1,
    }  # fmt: skip


def test_names_and_dimensions_of_one_group_must_both_fit() -> None:
    found = places([{"params": ["*.0.*", "head.*"], "ndim": 1}], Net())
    assert [name for name, place in found.items() if place == 0] == ["backbone.0.bias", "head.bias"]


def test_a_pattern_knows_one_special_sign_only() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.ParameterDict({"a[1]": torch.zeros(1), "a1": torch.zeros(1), "b?": torch.zeros(1)})

    assert places([{"params": "p.a[1]"}, {"params": "p.b?"}], Odd()) == {"p.a[1]": 0, "p.a1": None, "p.b?": 1}


def test_an_adapted_model_keeps_the_names_of_the_model_inside() -> None:
    adapted = Adapted(Net(), before=nn.Linear(4, 4))
    found = places(LAYERWISE, adapted)
    assert {name for name, place in found.items() if place == 0} == {
        "backbone.0.weight", "backbone.0.bias", "backbone.1.weight", "backbone.1.bias",
    }  # fmt: skip
    assert found["_before.weight"] is None


def test_a_tied_parameter_answers_to_each_of_its_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    assert places([{"params": "1.weight"}], model) == {"0.weight": 0}


def test_groups_come_back_from_toml_without_loss() -> None:
    first = recipe(groups=[*LAYERWISE, {"params": ["head.*"], "betas": (0.5, 0.25), "maximize": True}])
    again = Recipe.from_toml(first.to_toml())
    assert again == first
    assert again.groups[2].settings["betas"] == (0.5, 0.25)
    assert again.to_toml() == first.to_toml()
    fixed = recipe(groups=[{"params": "backbone.*", "train": False}])
    assert Recipe.from_toml(fixed.to_toml()).groups == (Group(("backbone.*",), train=False),)


def test_the_mask_of_the_decay_is_not_laid_over_groups() -> None:
    assert Recipe(optimizer="adamw").decay == "weights"
    assert recipe().decay == "all"
    assert Recipe(optimizer="adamw", decay="weights").edit(groups=LAYERWISE).decay == "all"


def test_an_edited_rate_keeps_the_ratio_of_the_groups() -> None:
    edited = recipe().edit(lr=0.5)
    assert (edited.lr, edited.groups[0].settings["lr"]) == (0.5, pytest.approx(0.05))
    assert "lr" not in edited.groups[1].settings
    assert recipe(batch_size=64).edit(batch_size=256).groups[0].settings["lr"] == pytest.approx(0.02)


def test_an_edited_decay_reaches_what_decays_and_nothing_else() -> None:
    groups = [*LAYERWISE, {"params": "head.*", "weight_decay": 0.1}]
    edited = recipe(groups=groups).edit(weight_decay=0.4)
    assert [group.settings.get("weight_decay") for group in edited.groups] == [None, 0.0, 0.2]
    without = edited.edit(weight_decay=0.0)
    assert [group.settings.get("weight_decay") for group in without.groups] == [None, 0.0, None]
    again = without.edit(weight_decay=0.3)  # the head's ratio went with the zero, the biases' zero did not
    assert [group.settings.get("weight_decay") for group in again.groups] == [None, 0.0, None]
    assert again.weight_decay == 0.3


def test_a_rate_of_zero_forgets_ratios_and_leaves_no_group_behind() -> None:
    moved = recipe().edit(lr=0.0).edit(lr=0.3)
    assert moved.lr == 0.3
    assert "lr" not in moved.groups[0].settings


def test_other_settings_of_groups_stay_in_an_edit_and_go_with_the_optimizer() -> None:
    own = recipe(groups=[{"params": "head.*", "betas": (0.5, 0.5), "lr": 0.01, "weight_decay": 0.1}])
    assert own.edit(betas=(0.8, 0.8)).groups[0].settings["betas"] == (0.5, 0.5)
    other = own.edit(optimizer="sgd")
    assert other.groups[0].settings == {"lr": 0.01, "weight_decay": 0.1}
    assert own.edit(optimizer="torch.optim:LBFGS", weight_decay=None).groups[0].settings == {"lr": 0.01}


def test_groups_given_in_an_edit_stand_as_they_are() -> None:
    edited = recipe().edit(lr=1.0, groups=[{"params": "head.*", "lr": 0.25}])
    assert edited.groups[0].settings == {"lr": 0.25}
    assert recipe().edit(groups=None).groups == ()


def test_a_recipe_says_that_it_has_groups() -> None:
    assert "2 groups (lr 0.01, weight_decay 0)" in str(recipe())
    assert " 1 group (lr 0.25)" in str(recipe().edit(groups=[{"params": "head.*", "lr": 0.25}]))


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"groups": [{"lr": 0.1}]}, "group 1 does not say which parameters"),
        ({"groups": [{"params": "*", "leraning": 1}]}, "group 1: 'leraning' is no key of a group"),
        ({"groups": [{"params": "*", "momentum": 0.9}]}, "'momentum' is no key of a group"),
        ({"groups": [{"params": 3}]}, "params takes names or patterns"),
        ({"groups": [{"ndim": "one"}]}, "ndim numbers of dimensions"),
        ({"groups": [{"params": "*", "train": 1}]}, "train True or False"),
        ({"groups": {"params": "*"}}, "must be a list of tables"),
        ({"groups": [3]}, "must be a list of tables"),
        ({"groups": "backbone"}, "must be a list of tables"),
        ({"groups": [{"params": "*", "lr": -1}]}, "lr=-1"),
        ({"groups": [{"params": "*", "betas": (2, 0.9)}]}, "betas[0]=2"),
        ({"groups": [{"params": "*", "train": False, "lr": 1}]}, "what is fixed has no settings"),
        ({"decay": "weights"}, "decay='weights' with groups"),
        ({"optimizer": "torch.optim:LBFGS", "weight_decay": 0}, "'weight_decay' is no key of a group"),
        ({"optimizer": lambda params: Own(params, lr=0.1)}, "that code makes its groups itself"),
    ],
)
def test_every_misuse_of_groups_is_one_clear_line(given: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as told:
        recipe(**given)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"params": "bakbone.*"}], r"group 1: the model has no parameter 'bakbone.\*'"),
        ([{"params": ["head.weight", "head.scale"]}], r"no parameter 'head.scale' \(nearest: 'head"),
        ([{"params": "*"}, {"params": "head.*"}], "group 2 .*: earlier groups have all of its parameters"),
    ],
)
def test_groups_that_do_not_fit_the_model_are_one_clear_line(
    groups: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as told:
        places(groups, Net())
    assert "\n" not in str(told.value)


def test_a_rate_with_no_ratio_to_keep_is_refused_in_one_line() -> None:
    decaying = Recipe(optimizer="sgd", lr=0.1, groups=[{"ndim": 2, "weight_decay": 0.1}])
    with pytest.raises(RecipeError, match=r"^weight_decay=0.2: the recipe's own is 0 [^\n]*edit groups$"):
        decaying.edit(weight_decay=0.2)
