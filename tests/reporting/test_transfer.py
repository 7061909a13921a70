"""What the report tells of weights that a run started from, and of the rates of its depths."""

from __future__ import annotations

import torch
from torch import nn

import downslope as ds
from downslope.core.run import Run
from downslope.reporting.curves import _further
from downslope.reporting.report import report


def run(**how: object) -> Run:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    model = lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))  # noqa: E731
    there = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 9)).state_dict()
    problem = ds.Problem(
        model=model, objective="cross_entropy", train=(x, (x[:, 0] > 0).long()), weights=there
    )
    recipe = ds.Recipe(optimizer="sgd", lr=0.1, epochs=4, batch_size=20, **how)
    return ds.fit(problem, recipe, folder=False, progress=False)


def test_the_rate_of_each_depth_is_drawn_with_its_values() -> None:
    found = run(layer_decay=0.5, unfreeze=2)
    (drawn,) = [each for each in _further(found, ()) if each.name == "rate by depth"]
    assert [trace["name"] for trace in drawn.traces] == ["0", "2"]
    assert [list(trace["y"]) for trace in drawn.traces] == [[0, 0, 0.05, 0.05], [0.1] * 4]
    assert not [each for each in _further(run(), ()) if each.name == "rate by depth"]


def test_the_page_says_what_was_taken_and_which_depth_joins_when() -> None:
    page = report(run(layer_decay=0.5, unfreeze=2)).html
    assert "2 of 4 tensors" in page
    assert "rate times 0.5, from epoch 3, 30 parameters" in page
