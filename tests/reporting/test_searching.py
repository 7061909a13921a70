"""A search on the page and as figures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import choice, log, one_minus, when
from downslope.reporting.report import report
from downslope.reporting.searching import figures
from downslope.tuning.tune import tune

torch.manual_seed(0)
X = torch.randn(24, 3)
PROBLEM = Problem(
    model=lambda: nn.Linear(3, 1),
    objective="mse",
    train=(X, X.sum(1, keepdim=True)),
    valid=(X[:8], X[:8].sum(1, keepdim=True)),
)
SPACE = {
    "lr": log(1e-3, 1e9),
    "optimizer": choice("sgd", "momentum"),
    "momentum": when(one_minus(log(1e-3, 1e-1)), optimizer="momentum"),
}


@pytest.fixture(scope="module")
def found():
    recipe = Recipe(optimizer="sgd", epochs=12, batch_size=8)
    return tune(PROBLEM, recipe, SPACE, trials=20, confirm=1, fresh=2, folder=False, progress=False)


def views(found):
    return {each.name: each for figure in figures(found) for each in figure.choices}


def test_every_trial_is_in_the_picture_of_every_key_that_it_has(found):
    shown = views(found)["lr"]
    values = sorted(x for trace in shown.traces for x in trace["x"])
    assert values == pytest.approx(
        sorted(each.values["lr"] for each in found.trials if each.state in ("done", "pruned"))
    )
    assert shown.layout["xaxis"]["type"] == "log"
    gone = next(trace for trace in shown.traces if trace.get("name") == "diverged")
    assert set(gone["y"]) == {max(each.value for each in found.done)}  # at the worse edge
    momentum = views(found)["momentum"]
    assert sum(len(trace["x"]) for trace in momentum.traces) == sum(
        "momentum" in each.values for each in found.trials
    )
    assert momentum.layout["xaxis"]["title"]["text"] == "1 - momentum"


def test_curves_and_history_hold_what_was_measured(found):
    line = next(trace for trace in views(found)["curves"].traces if trace.get("name") == "the best")
    assert (tuple(line["x"]), tuple(line["y"])) == found.curves[found.best.number]
    best = next(trace for trace in views(found)["history"].traces if trace.get("name") == "best so far")
    assert best["y"][-1] == min(each.value for each in found.done)
    assert best["y"] == sorted(best["y"], reverse=True)


def test_parallel_lines_stay_in_their_ranges_and_leave_gaps_for_keys_that_are_not_there(found):
    places = [y for trace in views(found)["parallel"].traces for y in trace["y"] if y is not None]
    assert all(0 <= y <= 1 or math.isnan(y) for y in places)


@pytest.mark.parametrize("kind", ["parallel", "curves", "history", "importance", "slices", "lr"])
def test_each_is_a_figure_of_plotly(found, kind):
    drawn = found.plot(kind)
    assert len(drawn.data) > 0
    assert "@" not in str(drawn.to_dict()["data"])


def test_another_kind_is_refused_with_those_that_there_are(found):
    with pytest.raises(InputError, match="parallel"):
        found.plot("pie")


def test_the_page_says_what_the_search_says(found):
    page = report(found).html
    assert "The search" in page
    assert "fresh seeds" in page
    assert "search-keys" in page
