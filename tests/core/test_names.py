"""Names are told what they may be, whatever was given."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core import names
from downslope.core.errors import InputError, UnknownNameError


@pytest.mark.parametrize(("key", "near"), [("schedule", "cosine"), ("init", "xavier")])
@pytest.mark.parametrize("given", [3, True, ("cosine",)])
def test_a_name_that_is_no_text_is_told_what_there_is(key: str, near: str, given: Any) -> None:
    with pytest.raises(InputError) as told:
        ds.Recipe(**{key: given})
    text = str(told.value)
    assert text.startswith(f"{key}={given!r}: must be a name, one of ")
    assert near in text
    assert "\n" not in text


def test_where_nothing_is_known_it_says_none() -> None:
    assert names.did_you_mean("x", []) == "; known: none"
    assert names.did_you_mean("modle.width", ["lr", "model"]) == "; did you mean 'model.width'?"


@pytest.mark.parametrize("kind", ["objective", "metric", "model", "optimizer"])
def test_the_nearest_name_is_told(kind: Any) -> None:
    name = sorted(names.TABLE[kind])[0]
    with pytest.raises(UnknownNameError, match=f"did you mean '{name}'"):
        names.resolve(kind, name[:-1] + "q" + name[-1])


@pytest.mark.parametrize(
    ("given", "allowed", "near"),
    [
        ("adma", ["adam", "sgd"], "adam"),
        ("Wieght_decay", ["lr", "weight_decay"], "weight_decay"),
        ("decay", ["lr", "weight_decay"], "weight_decay"),
        ("cross", ["cross_entropy", "hinge"], "cross_entropy"),
    ],
)
def test_a_slip_a_beginning_and_a_word_of_a_name_are_near(given: str, allowed: list[str], near: str) -> None:
    assert names.did_you_mean(given, allowed) == f"; did you mean {near!r}?"


@pytest.mark.parametrize(
    ("given", "other"),
    [("nosuch", "random-search"), ("nothing", "hinge"), ("lion", "linear"), ("mnist", "init")],
)
def test_a_word_of_another_meaning_is_not_suggested(given: str, other: str) -> None:
    assert names.did_you_mean(given, [other]) == f"; known: {other}"


@pytest.mark.parametrize("given", ["sam(adam", "lookahead(sgd", "sam("])
def test_a_bracket_that_is_not_closed_is_refused(given: str) -> None:
    with pytest.raises(UnknownNameError, match=r"write it as (sam|lookahead)\("):
        names.canonical("optimizer", given)


@pytest.mark.parametrize(
    ("given", "shown"), [("sam(", "sam(sgd)"), ("sam()", "sam(sgd)"), ("lookahead( )", "lookahead(adam)")]
)
def test_a_bracket_around_nothing_is_shown_filled(given: str, shown: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(shown)):
        names.canonical("optimizer", given)


def test_a_class_of_the_optimizers_may_be_named_as_it_is() -> None:
    for name, place in names.TABLE["optimizer"].items():
        attribute = place.partition(":")[2]
        found = names.canonical("optimizer", attribute).partition("(")[0]
        assert found == name, attribute


@pytest.mark.parametrize(
    ("given", "setting"), [("AMSGrad", {"amsgrad": True}), ("centered_rmsprop", {"centered": True})]
)
def test_a_rule_that_is_a_setting_of_another_is_told_with_it(given: str, setting: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        names.canonical("optimizer", given)
    name = re.search(r"optimizer='(\w+)'", str(caught.value))
    assert name
    assert set(setting) <= set(
        names.resolve("optimizer", name[1])([torch.nn.Parameter(torch.ones(2))]).param_groups[0]
    )
    ((key, value),) = setting.items()
    assert f"with {key}={value}" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lookahead(adam, k=3)", r"Recipe\(optimizer='lookahead\(adam\)', lr=0.1\)"),
        ("lookahead(adam(lr=0.1))", r"Recipe\(optimizer='lookahead\(adam\)', lr=0.1\)"),
        ("adam(lr=0.1)", r"Recipe\(optimizer='adam', lr=0.1\)"),
        ("cautious(adamw)", "write 'cautious_adamw'$"),
    ],
)
def test_settings_in_the_name_of_an_optimizer_are_shown_their_place(given: str, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        names.canonical("optimizer", given)


@pytest.mark.parametrize("given", ["foo", "sam(foo)", "lookahead(foo)", "zzz"])
def test_a_name_near_to_none_of_many_is_told_a_few_and_where_all_are_listed(given):
    with pytest.raises(UnknownNameError) as caught:
        names.canonical("optimizer", given)
    told = str(caught.value)
    assert len(told) < 200
    assert told.endswith(
        f"ds.optim.catalogue() and ds.methods.catalogue() list all {len(names.TABLE['optimizer'])}"
    )
    near = told.partition("; the nearest are ")[2].partition(";")[0].split(", ")
    assert len(near) == 3
    assert set(near) <= set(names.TABLE["optimizer"])
