"""The catalogue says what the classes do."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from downslope.core import names
from downslope.optim import catalogue

ROWS = catalogue()


def test_every_optimizer_of_the_table_has_a_row():
    own = [n for n, place in names.TABLE["optimizer"].items() if place.startswith("downslope.optim:")]
    assert [row.name for row in ROWS] == own


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_tells_state_backends_and_source(row):
    assert row.source
    assert row.scope == "element"
    for backend in row.backends:
        p = nn.Parameter(torch.ones(3))
        optimizer = row.cls([p], backend=backend)
        p.grad = torch.ones(3)
        optimizer.step()
        assert set(row.state) == set(optimizer.state[p]) - {"step"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_class_of_torchs_name_has_torchs_arguments_order_and_defaults(row):
    theirs = getattr(torch.optim, row.cls.__name__, None)
    if theirs is None:
        pytest.skip("torch has no such class")
    left_out = {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
    expected = [
        (p.name, p.default) for p in inspect.signature(theirs).parameters.values() if p.name not in left_out
    ][1:]
    found = [(h.name, h.default) for h in row.hyper_parameters]
    assert found == expected
    group = row.cls([nn.Parameter(torch.ones(1))]).param_groups[0]
    assert set(group) == {"params", *(name for name, _ in expected)}
