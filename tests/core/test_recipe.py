"""The recipe: validated, immutable, edited into new ones, to and from a file without loss."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import downslope as ds
from downslope.core.errors import InputError, RecipeError
from downslope.core.recipe import Recipe


def grouped(params: Any) -> torch.optim.Optimizer:
    params = list(params)
    return torch.optim.SGD([{"params": params[:1], "lr": 0.1}, {"params": params[1:], "lr": 0.01}], lr=0.5)


def test_nothing_said_is_adam_and_says_so() -> None:
    recipe = Recipe()
    assert recipe.optimizer == "adam"
    assert recipe.lr == 1e-3
    assert "(the default)" in str(recipe)
    assert "(the default)" not in str(Recipe(optimizer="adam"))


@pytest.mark.parametrize(
    ("factory", "name", "settings"),
    [
        (lambda p: torch.optim.SGD(p, lr=3.0), "sgd", {}),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), "sgd",
         {"momentum": 0.9, "nesterov": True}),
        (torch.optim.Adam, "adam", {}),
        (lambda p: torch.optim.Adam(p, lr=1e-4, betas=(0.8, 0.9)), "adam", {"betas": (0.8, 0.9)}),
        (lambda p: torch.optim.NAdam(p, lr=1e-4, momentum_decay=0.01), "nadam", {"momentum_decay": 0.01}),
        (lambda p: torch.optim.ASGD(p, lr=1e-4, lambd=0.01), "torch.optim:ASGD", {"lambd": 0.01}),
        ("torch.optim:RAdam", "torch.optim:RAdam", {}),
        (f"{__name__}:grouped", f"{__name__}:grouped", {}),
    ],
)  # fmt: skip
def test_factories_become_a_name_and_settings(factory: Any, name: str, settings: dict[str, Any]) -> None:
    recipe = Recipe(optimizer=factory)
    assert recipe.optimizer == name
    assert recipe.settings == settings
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_recognised_factory_decays_what_torch_decays_and_names_and_classes_spare_biases() -> None:
    assert Recipe(optimizer=lambda params: torch.optim.AdamW(params, 0.1)).decay == "all"
    assert Recipe(optimizer=torch.optim.AdamW).weight_decay == 0.01
    assert Recipe(optimizer=torch.optim.AdamW) == Recipe(optimizer="adamw")
    assert Recipe(optimizer="adamw").decay == "weights"


def test_code_stays_code_and_is_refused_by_a_file() -> None:
    recipe = Recipe(optimizer=lambda params: grouped([*params]))
    assert recipe.opaque
    with pytest.raises(RecipeError, match=r"^[^\n]*is code, a recipe file holds names[^\n]*$"):
        recipe.to_toml()


def test_an_edit_gives_a_new_recipe_and_leaves_the_old() -> None:
    recipe = Recipe(optimizer="sgd", lr=0.1, momentum=0.9)
    edited = recipe.edit(lr=0.01, momentum=0.5)
    assert (recipe.lr, recipe.momentum) == (0.1, 0.9)
    assert (edited.lr, edited.momentum, edited.optimizer) == (0.01, 0.5, "sgd")
    with pytest.raises(Exception, match=r"a recipe stays as it is: recipe\.edit"):
        recipe.lr = 1.0


def test_another_optimizer_takes_its_own_settings_and_default_rate() -> None:
    assert Recipe(optimizer="sgd", momentum=0.9, lr=0.1).edit(optimizer="adam").settings == {}
    assert (
        Recipe(optimizer="adam").edit(optimizer="sgd").lr
        == ds.optim.SGD([nn.Parameter(torch.zeros(1))]).defaults["lr"]
    )


def test_epochs_and_steps_replace_one_another_in_an_edit() -> None:
    assert Recipe(epochs=3).edit(steps=7).epochs is None
    assert Recipe(steps=7).edit(epochs=3).steps is None


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [
        ("sgd", 4.0),
        ("momentum", 4.0),
        ("adam", 2.0),
        ("lamb", 2.0),
        ("lion", 2.0),
        ("torch.optim:NAdam", 2.0),
        ("torch.optim:ASGD", 4.0),
    ],
)
def test_another_batch_size_rescales_the_rate_and_says_so(
    optimizer: str, factor: float, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = Recipe(optimizer=optimizer, lr=0.01, batch_size=32)
    with caplog.at_level(logging.WARNING, "downslope"):
        edited = recipe.edit(batch_size=128)
    assert edited.lr == pytest.approx(0.01 * factor)
    assert "lr 0.01 ->" in caplog.text
    assert recipe.edit(batch_size=128, lr=0.5).lr == 0.5


def test_another_batch_size_leaves_the_rate_of_a_method_that_finds_its_own() -> None:
    assert Recipe(optimizer="prodigy", lr=1.0, batch_size=32).edit(batch_size=128).lr == 1.0


def test_a_rate_that_cannot_be_rescaled_is_told_to_stay(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "downslope"):
        assert Recipe(optimizer="sgd", lr=0.1).edit(batch_size="full").lr == 0.1
    assert "the learning rate stays" in caplog.text


def test_numbers_of_numpy_reach_a_file() -> None:
    recipe = Recipe(optimizer="sgd", lr=np.float64(0.1), momentum=np.float64(0.9), batch_size=np.int64(32))
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_full_batch_methods_take_the_full_batch() -> None:
    assert Recipe(optimizer="gd").batch_size == "full"
    with pytest.raises(RecipeError, match="must be 'full'"):
        Recipe(optimizer="gd", batch_size=3)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"optimizer": "adm"}, "did you mean 'adam'"),
        ({"optimizer": 5}, "must be a name or a factory"),
        ({"optimizer": lambda p: 3}, "must"),
        ({"lr": -0.1}, "lr=-0.1"),
        ({"lr": math.nan}, "lr="),
        ({"lr": "fast"}, "lr='fast': must be a number in [0, inf)"),
        ({"lr": True}, "lr=True: must be a number"),
        ({"learning_rate": 0.1}, "'learning_rate' is no key of a recipe"),
        (
            {"optimizer": "lookahead(adam)", "k": 3},
            "Recipe(optimizer='lookahead(adam)', la_steps=3)",
        ),
        ({"optimizer": "lookahead", "alpha": 0.3}, "la_alpha=0.3"),
        ({"optimizer": "sam(sgd)", "sam_rho": 0.3}, "write Recipe(optimizer='sam(sgd)', rho=0.3)"),
        ({"batch_sise": 3}, "did you mean 'batch_size'"),
        ({"optimizer": "sgd", "momentun": 0.9}, "did you mean 'momentum'"),
        ({"optimizer": "sgd", "settings": {"momentun": 0.9}}, "did you mean 'momentum'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": math.inf}, "batch_size=inf"),
        ({"batch_size": math.nan}, "batch_size=nan"),
        ({"batch_size": True}, "batch_size=True"),
        ({"batch_size": "half"}, "batch_size='half'"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 1, "steps": 1}, "not both"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"init": "hee"}, "did you mean"),
        ({"seed": -1}, "seed=-1: must be an integer in [0, 2**63)"),
        ({"seed": True}, "seed=True"),
        ({"epochs": True}, "epochs=True"),
        ({"weight_decay": False}, "weight_decay=False"),
        ({"clip_norm": True}, "clip_norm=True"),
        ({"clip_norm": math.inf}, "clip_norm=inf: must be a number in (0, inf)"),
        ({"weight_decay": -1}, "weight_decay=-1"),
        ({"clip_norm": 0}, "clip_norm=0"),
        ({"precision": "float8"}, "precision='float8': must be 'auto'"),
        ({"patience": 0}, "patience=0"),
    ],
)
def test_every_misuse_is_one_clear_line(given: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError) as told:
        Recipe(**given)
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [("lr = ", "not"), ("lrr = 0.1", "did you mean 'lr'"), ("momentum = 0.9", "'momentum' is no key")],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as told:
        Recipe.load(path)
    assert part in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(RecipeError, match="No such file"):
        Recipe.load(tmp_path / "none.toml")


def test_a_recipe_is_written_with_the_folders_on_its_way_or_says_why_not(tmp_path: Path) -> None:
    assert ds.Recipe.load(ds.Recipe(lr=0.3).save(tmp_path / "a" / "b" / "r.toml")).lr == 0.3
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"^[^\n]*r\.toml cannot be written: [^\n]*$"):
        ds.Recipe().save(tmp_path / "file" / "r.toml")
