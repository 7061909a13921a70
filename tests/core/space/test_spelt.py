"""The text of a dimension is read back as an equal one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from downslope.core.errors import SpaceError
from downslope.core.space import Choice, choice, integer, log, one_minus, parse, uniform, when


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("log:1e-4:1", log(1e-4, 1)),
        ("uniform:0:0.5", uniform(0, 0.5)),
        ("int:16:512", integer(16, 512)),
        ("Integer:16:512", integer(16, 512)),
        ("log-int:16:512", integer(16, 512, log=True)),
        ("choice:sgd,adam", choice("sgd", "adam")),
        ("choice:1,2.5,true,none,'1'", choice(1, 2.5, True, None, "1")),
        ("choice:(0.9,0.99),(0.9,0.999)", choice((0.9, 0.99), (0.9, 0.999))),
        ("one-minus-log:1e-3:1e-1", one_minus(log(1e-3, 1e-1))),
        ("one_minus_uniform:0:1", one_minus(uniform(0, 1))),
        ("log:.1:1 when optimizer=sgd|adam and batch_size=64", when(
            log(0.1, 1), optimizer=["sgd", "adam"], batch_size=64
        )),
    ],
)  # fmt: skip
def test_a_spelling_is_its_dimension_and_comes_back(text, dimension):
    assert parse(text) == dimension
    assert parse(dimension.text()) == dimension


@given(some.lists(some.text() | some.integers() | some.booleans() | some.none(), min_size=1, max_size=4))
def test_any_options_come_back_from_their_text(options):
    seen = [(type(each), each) for each in options]
    if len(set(seen)) < len(seen) or any("\\" in repr(each) for each in options):
        return
    found = Choice(tuple(options))
    assert parse(found.text()) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lgo:1e-4:1", "did you mean log?"),
        ("0.1", "is no dimension: write log:1e-4:1"),
        ("log:1e-4", "must have two numbers"),
        ("log:a:b", "must have two numbers"),
        ("log:1e-4:1:3", "must have two numbers"),
        ("int:1.5:3", "is no whole number"),
        ("log:1:1e-4", "reversed"),
        ("log:0:1", "no logarithm"),
        ("choice:", "nothing to choose from"),
        ("log:0.1:1 when optimizer", "after 'when' goes key=value"),
    ],
)
def test_a_wrong_spelling_is_refused_in_one_line(text, told):
    with pytest.raises(SpaceError, match=r"^[^\n]*$") as caught:
        parse(text)
    assert told in str(caught.value)
