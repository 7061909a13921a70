"""Files lose nothing: any recipe of a named or recognised optimizer, any table of plain values."""

from __future__ import annotations

import tomllib
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from downslope.core import names
from downslope.core.plain import to_toml
from downslope.core.recipe import Recipe, optimizer_defaults

rates = st.floats(min_value=0, max_value=1e300, allow_subnormal=True)
shares = st.floats(min_value=0, max_value=0.999999)

COMMON: dict[str, st.SearchStrategy[Any]] = {
    "lr": rates, "schedule": st.sampled_from(list(names.TABLE["schedule"])), "warmup": st.integers(0, 10**9),
    "decay": st.sampled_from(["weights", "all"]), "clip_norm": st.floats(1e-300, 1e300),
    "clip_value": st.floats(1e-300, 1e300), "accumulate": st.integers(1, 9),
    "init": st.sampled_from(list(names.TABLE["init"])), "patience": st.integers(1, 10**6),
    "precision": st.sampled_from(["auto", "float32", "float64", "bfloat16"]), "device": st.just("cpu"),
    "seed": st.integers(0, 2**63 - 1), "weight_decay": rates,
}  # fmt: skip
OF_AVERAGES = {"average_from": shares, "average_every": st.integers(1, 10**9)}
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "momentum": shares, "betas": st.tuples(shares, shares), "eps": st.floats(1e-300, 1.0), "alpha": shares,
    "lr_decay": shares, "initial_accumulator_value": rates,
}  # fmt: skip


def _is_usual(key: str, default: Any) -> bool:
    """Whether a setting is what most methods have by that name: Adan has three betas, Adafactor two eps."""
    return len(default) == 2 if key == "betas" else isinstance(default, float)


@st.composite
def recipes(draw: st.DrawFn, optimizers: list[str]) -> Recipe:
    optimizer = draw(st.sampled_from(optimizers))
    taken = optimizer_defaults(optimizer)
    given_keys = draw(st.fixed_dictionaries({}, optional=COMMON))
    own = {k: v for k, v in SETTINGS.items() if k in taken and _is_usual(k, taken[k])}
    given_keys |= draw(st.fixed_dictionaries({}, optional=own))
    length = draw(st.sampled_from(["epochs", "steps", None]))
    if length:
        given_keys[length] = draw(st.integers(1, 10**9))
    average = draw(st.sampled_from([None, "ema", "polyak", "swa"]))
    if average:
        given_keys |= {"average": average} | draw(st.fixed_dictionaries({}, optional=OF_AVERAGES))
    if average == "ema":
        given_keys["average_decay"] = draw(shares)
    if optimizer != "gd":
        given_keys["batch_size"] = draw(st.one_of(st.integers(1, 10**9), st.just("full")))
    return Recipe(optimizer=optimizer, **given_keys)


@given(recipe=recipes([*names.TABLE["optimizer"], "torch.optim:NAdam", "torch.optim:Rprop"]))
def test_a_recipe_comes_back_equal_from_toml(recipe: Recipe) -> None:
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert again.to_toml() == recipe.to_toml()
    assert {type(v) for v in again.settings.values()} == {type(v) for v in recipe.settings.values()}


@given(lr=st.floats(1e-300, 1e300), betas=st.tuples(shares, shares), amsgrad=st.booleans())
def test_a_recognised_factory_comes_back_equal_from_toml(
    lr: float, betas: tuple[float, float], amsgrad: bool
) -> None:
    for cls in (torch.optim.Adam, torch.optim.AdamW):
        recipe = Recipe(optimizer=lambda p, cls=cls: cls(p, lr=lr, betas=betas, amsgrad=amsgrad))
        again = Recipe.from_toml(recipe.to_toml())
        assert again == recipe
        assert (again.lr, again.settings.get("betas", (0.9, 0.999))) == (lr, betas)


@given(recipe=recipes(["sgd", "adam"]), lr=rates)
def test_an_edit_changes_what_it_names_and_nothing_else(recipe: Recipe, lr: float) -> None:
    edited = recipe.edit(lr=lr)
    assert edited.lr == lr
    assert edited.edit(lr=recipe.lr) == recipe


texts = st.text(max_size=8)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    texts,
    st.just("\x7f\x00\"'\\\n"),
)
values = st.recursive(
    scalars, lambda each: st.lists(each, max_size=3) | st.dictionaries(texts, each, max_size=3), max_leaves=8
)


@given(table=st.dictionaries(texts, values, max_size=5))
def test_any_table_of_plain_values_comes_back_equal_from_toml(table: dict[str, Any]) -> None:
    again = tomllib.loads(to_toml(table))
    assert again == table
    assert repr(sorted(again)) == repr(sorted(table))
