"""Whom the weight decay of a recipe takes: the same, however the optimizer is spelt, and it is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import RecipeError
from downslope.training.optimizer import build_optimizer

LEFT_OUT, TAKEN = "decay 0.5 (not on biases and norms)", "decay 0.5 (biases and norms too)"


class Own(torch.optim.Optimizer):
    """As most packages write theirs: settings in the groups."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})


class OneForAll(torch.optim.Optimizer):
    """Its decay is no entry of a group."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr})
        self.weight_decay = weight_decay


class NeedsLr(OneForAll):
    def __init__(self, params: Any, lr: float, weight_decay: float = 0.01) -> None:
        super().__init__(params, lr, weight_decay)


class Ungrouped(Own):
    """It takes parameters and no groups."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__([p for p in params if p.requires_grad], lr, weight_decay)


class UngroupedNeedsLr(Ungrouped):
    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)


def here() -> type[Own]:
    class Local(Own):
        pass

    return Local


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def decays(recipe: ds.Recipe) -> list[float]:
    net = model()
    groups = build_optimizer(recipe, net).param_groups
    of = {id(p): float(group.get("weight_decay", -1.0)) for group in groups for p in group["params"]}
    return [of[id(p)] for p in net.parameters()]


@pytest.mark.parametrize(
    "optimizer",
    [
        "adamw", torch.optim.AdamW, ds.optim.AdamW, "torch.optim:AdamW", "downslope.optim:AdamW",
        "sgd", torch.optim.SGD, "torch.optim:SGD", torch.optim.ASGD,
        "sam(sgd)", ds.optim.SAM, Own, here(), f"{__name__}:Own",
    ],
)  # fmt: skip
def test_biases_and_norms_do_not_decay_however_the_optimizer_is_spelt(optimizer: Any) -> None:
    recipe = ds.Recipe(optimizer=optimizer, weight_decay=0.5)
    assert decays(recipe) == [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]
    assert LEFT_OUT in str(recipe)
    all_of_them = recipe.edit(decay="all")
    assert decays(all_of_them) == [0.5] * 6
    assert TAKEN in str(all_of_them)


def test_muon_spares_them_by_class_as_by_name() -> None:
    by_name, by_class = (ds.Recipe(optimizer=each, weight_decay=0.5) for each in ("muon", ds.optim.Muon))
    assert decays(by_class) == decays(by_name) == [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]


def test_a_factory_decays_what_its_code_decays_and_that_is_said() -> None:
    recipe = ds.Recipe(optimizer=lambda params: torch.optim.AdamW(params, weight_decay=0.5))
    assert decays(recipe) == [0.5] * 6
    assert TAKEN in str(recipe)
    spared = recipe.edit(decay="weights")
    assert decays(spared) == [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]
    assert LEFT_OUT in str(spared)


def test_a_class_that_keeps_one_decay_or_takes_no_groups_decays_all_and_says_so() -> None:
    for own in (OneForAll, f"{__name__}:OneForAll", Ungrouped, f"{__name__}:Ungrouped"):
        recipe = ds.Recipe(optimizer=own, weight_decay=0.5)
        assert recipe.decay == "all"
        assert TAKEN in str(recipe)
        assert len(build_optimizer(recipe, model()).param_groups) == 1


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        (f"{__name__}:OneForAll", "one weight_decay for all parameters.*; give decay='all'"),
        (f"{__name__}:NeedsLr", "one weight_decay for all parameters.*; give decay='all'"),
        (f"{__name__}:UngroupedNeedsLr", "'dict' object has no attribute.*; decay='all' gives it the param"),
    ],
)
def test_a_mask_that_a_class_cannot_heed_is_refused(optimizer: str, told: str) -> None:
    recipe = ds.Recipe(optimizer=optimizer, lr=0.1, weight_decay=0.5, decay="weights")
    with pytest.raises(RecipeError, match=rf"^[^\n]*{told}[^\n]*$"):
        build_optimizer(recipe, model())
    assert len(build_optimizer(recipe.edit(decay="all"), model()).param_groups) == 1


def test_groups_tell_themselves_whom_the_decay_takes() -> None:
    groups = [{"ndim": [0, 1], "weight_decay": 0.0}]
    recipe = ds.Recipe(optimizer=torch.optim.AdamW, weight_decay=0.5, groups=groups)
    assert decays(recipe) == [0.5, 0.0, 0.0, 0.0, 0.5, 0.0]
    assert "biases" not in str(recipe)
