"""The catalogue says what the classes do."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import nn

from downslope.core import names
from downslope.core.errors import UnknownNameError
from downslope.optim import catalogue

ROWS = catalogue()


def test_every_optimizer_of_the_table_has_a_row():
    own = [n for n, place in names.TABLE["optimizer"].items() if place.startswith("downslope.optim")]
    assert [row.name for row in ROWS] == own


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_tells_state_backends_and_source(row):
    assert row.source
    for backend in row.backends:
        p = nn.Parameter(torch.ones(5, 3))
        optimizer = row.cls([p], backend=backend)
        p.grad = torch.ones(5, 3)
        optimizer.step(p.sum().backward) if row.name == "sam" else optimizer.step()
        state = optimizer.state_dict()["state"].get(0, {})
        tensors = {key: value for key, value in state.items() if getattr(value, "ndim", 0)}
        assert set(tensors) <= set(row.state)
        assert _elements(row.memory) == sum(tensor.numel() for tensor in tensors.values())


def _elements(memory):
    """How many elements a text like "2 (m, n) + (m, 1)" stands for, with m = 5 and n = 3."""
    total = 0
    for part in memory.split(" + ") if memory != "none" else []:
        count, _, shape = part.partition("(")
        sizes = [{"m": 5, "n": 3}.get(each) or int(each) for each in shape.rstrip(")").split(", ") if each]
        total += int(count or 1) * math.prod(sizes)
    return total


def test_row_tells_who_steps_matrices_and_who_the_rest():
    by_name = {row.name: row.routes for row in ROWS}
    assert by_name["adam"] == by_name["shampoo"] == ()
    assert by_name["muon"] == (
        "MeanMomentum, Orthogonalise, ScaleByLr: (m, n)",
        "ScaleByAdam, ScaleByLr: 2 (n)",
    )
    assert by_name["soap"][1] == "ScaleByAdam, ScaleByLr: 2 (n)"


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which few rows take two lines."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("wide")
def test_catalogue_prints_a_line_for_each_row():
    lines = str(ROWS).splitlines()
    assert lines[0].split("  ")[0] == "name"
    found = [line.split()[0] for line in lines[1:-1] if not line.startswith(" ")]
    assert found == [row.name for row in ROWS]
    [adam] = [line for line in lines if line.startswith("adam ")]
    assert adam.split("  ")[1:]
    assert "2 (m, n)" in adam
    assert "Kingma and Ba 2015" in adam


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_class_of_torchs_name_has_torchs_arguments_order_and_defaults(row):
    theirs = getattr(torch.optim, row.cls.__name__, None)
    if theirs is None:
        pytest.skip("torch has no such class")
    if row.name == "muon":
        pytest.skip("it takes more, for what is no matrix: test_muon.py")
    left_out = {"foreach", "fused", "capturable", "differentiable"}
    if row.name in ("adam", "adamw"):  # of which one is always coupled and the other never
        left_out.add("decoupled_weight_decay")
    expected = [
        (p.name, p.default) for p in inspect.signature(theirs).parameters.values() if p.name not in left_out
    ][1:]
    named = {name for name, _ in expected}  # what only ours takes is keyword-only: Adafactor's factor
    assert [(h.name, h.default) for h in row.hyper_parameters if h.name in named] == expected
    ours = inspect.signature(row.cls).parameters
    more = [ours[h.name] for h in row.hyper_parameters if h.name not in named]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in more)
    group = row.cls([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert set(group) == {"params", *(h.name for h in row.hyper_parameters)}


@pytest.mark.usefixtures("wide")
def test_table_says_what_vectors_keep_where_they_take_another_chain():
    told = {line.split()[0]: line for line in str(ROWS).splitlines()}
    assert "  (m, n); vectors 2 (n)  " in told["muon"]
    assert "vectors" not in told["adam"]


def test_row_is_found_by_name_in_any_spelling():
    assert ROWS["adam"].name == ROWS["Adam"].name == "adam"
    assert ROWS["heavy-ball"] is ROWS["momentum"]
    assert ROWS[0].name == "gd"
    assert [row.name for row in ROWS[:2]] == ["gd", "sgd"]


@pytest.mark.parametrize(
    ("name", "told"), [("adma", "did you mean 'adam'"), ("newton", "ds.methods"), ("sam(sgd)", "a row each")]
)
def test_name_without_a_row_is_told(name, told):
    with pytest.raises(UnknownNameError, match=told):
        ROWS[name]


@pytest.mark.parametrize("columns", [80, 120])
def test_the_printed_table_is_no_wider_than_the_terminal_and_has_every_word(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = str(ROWS)
    assert max(map(len, printed.splitlines())) <= columns
    words = printed.split()
    for row in ROWS:
        assert row.name in words
        assert set(row.source.split()) <= set(words)
        assert set(row.backends) <= {word.strip(",") for word in words}


def test_names_are_asked_for_as_in_a_mapping_and_iterating_gives_rows():
    rows = catalogue()
    assert "adam" in rows
    assert "Schedule-Free-AdamW" in rows
    assert not any(name in rows for name in ("adm", "newton", "", "sam(adam)"))
    assert rows[3] in rows
    assert 3 not in rows
    assert [row.name for row in rows] == list(rows.keys())
    assert dict(rows) == {row.name: row for row in rows}
    assert all(row is rows[row.name] for row in rows)
