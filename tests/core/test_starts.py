"""The initialisation of a recipe as data: a name or a table, its settings as keys, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope.cli.given import changed
from downslope.core.errors import InputError, RecipeError, UnknownNameError

LINE = ds.Problem(model=lambda: nn.Linear(200, 300), objective="squared_error",
                  train=(torch.zeros(4, 200), torch.zeros(4, 300)))  # fmt: skip


def sevens(weight, generator):
    weight.fill_(7)


def test_a_table_and_its_toml_are_one_recipe():
    recipe = ds.Recipe(init={"name": "normal", "std": 0.5})
    text = recipe.to_toml()
    assert '[init]\nname = "normal"\nstd = 0.5\n' in text
    assert ds.Recipe.from_toml(text) == recipe
    assert ds.Recipe.from_toml('init = { name = "Normal", std = 0.5 }\n').init == recipe.init
    assert "init normal(std=0.5)" in recipe.describe()
    assert ds.Recipe(init="normal(std=0.5)") == recipe


def test_a_table_without_settings_is_its_name():
    assert ds.Recipe(init={"name": "kaiming"}).init == "he"
    assert ds.Recipe(init="kaiming") == ds.Recipe(init={"name": "he"})


def test_a_setting_is_a_key_of_its_own():
    recipe = ds.Recipe(init="normal").edit(**{"init.std": 0.3})
    assert recipe.init == {"name": "normal", "std": 0.3}
    assert recipe.edit(**{"init.scale": 2}).init == {"name": "normal", "std": 0.3, "scale": 2.0}
    assert recipe.edit(**{"init.std": None}).init == "normal"
    assert recipe.edit(init="he").init == "he"
    assert ds.Recipe(**{"init": "he", "init.scale": 0.1}).init == {"name": "he", "scale": 0.1}
    assert {"init.std", "init.scale"} <= set(recipe.keys())


def test_settings_and_the_factor_decide_what_is_drawn():
    plain = LINE.build(0, "he").weight
    assert torch.equal(LINE.build(0, {"name": "he", "scale": 0.25}).weight, 0.25 * plain)
    assert LINE.build(0, {"name": "normal", "std": 3.0}).weight.std().item() == pytest.approx(3, rel=0.02)
    assert LINE.build(0, {"name": "constant", "value": 0.7}).weight.unique().tolist() == pytest.approx([0.7])


def test_the_command_line_takes_a_name_a_setting_or_a_table():
    ways = (["init=normal", "init.std=0.3"], ["init={name='normal', std=0.3}"], ["init=normal(std=0.3)"])
    for said in ways:
        assert changed(LINE, ds.Recipe(), said)[1].init == {"name": "normal", "std": 0.3}
    with pytest.raises(RecipeError, match=r"init\.std"):
        changed(LINE, ds.Recipe(), ["init=normal", "init.sdt=0.3"])


def test_a_population_varies_the_scale_alone():
    recipes = [ds.Recipe(init={"name": "xavier", "scale": s}, steps=1) for s in (0.5, 1.0, 2.0)]
    sizes = [LINE.build(r.seed, r.init).weight.norm().item() for r in recipes]
    assert [size / sizes[1] for size in sizes] == pytest.approx([0.5, 1.0, 2.0])


def test_a_function_that_can_be_imported_serves_as_a_name():
    model = LINE.build(0, ds.Recipe(init="tests.core.test_starts:sevens").init)
    assert model.weight.min() == model.weight.max() == 7


@pytest.mark.parametrize(
    ("init", "kind", "said"),
    [
        ("hee", UnknownNameError, "did you mean"),
        ({"std": 0.1}, RecipeError, "does not say which"),
        ({"name": "normal", "sdt": 0.1}, RecipeError, "'sdt' is no setting of it; known: scale, std"),
        ({"name": "normal", "std": -1}, RecipeError, r"std=-1\.0: must lie in \[0, inf\)"),
        ({"name": "normal", "std": float("nan")}, RecipeError, "std=nan"),
        ({"name": "normal", "std": "big"}, RecipeError, "std='big': must be a number"),
        ({"name": "he", "scale": -2}, RecipeError, "scale=-2: must lie in"),
        ({"name": "uniform", "bound": -2}, RecipeError, "bound=-2"),
        ({"name": "truncated_normal", "cut": 0}, RecipeError, "cut=0.0: must lie in"),
        ({"name": "constant", "value": float("inf")}, RecipeError, "must be a finite number"),
        ({"name": "lsuv", "tolerance": 2}, RecipeError, "tolerance=2.0: must lie in"),
        (3, InputError, "must be a name"),
        ("normal(0.3, 2)", RecipeError, "too many: it takes std"),
        ("normal(0.3, std=0.2)", RecipeError, "std is given twice"),
        ("normal(std=", InputError, "cannot be read"),
    ],
)
def test_what_no_start_is_is_told_in_one_line(init, kind, said):
    with pytest.raises(kind, match=said) as told:
        ds.Recipe(init=init)
    assert "\n" not in str(told.value)


def test_a_setting_without_an_initialisation_is_refused():
    with pytest.raises(RecipeError, match="say which: init="):
        ds.Recipe(**{"init.std": 0.1})


def test_settings_without_a_name_are_taken_in_the_order_of_its_own():
    assert ds.Recipe(init="constant(0.3)").init == {"name": "constant", "value": 0.3}
    wanted = {"name": "truncated_normal", "std": 0.3, "cut": 1.5, "scale": 2.0}
    assert ds.Recipe(init="truncated_normal(0.3, 1.5, scale=2)").init == wanted
