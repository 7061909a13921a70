"""Starts in the report: a card each, its ridges and its numbers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import downslope as ds
from downslope.reporting.report import report


def starts(activation: str = "tanh", *inits: Any) -> list[ds.init.Measured]:
    data = ds.data.digits(scale=16)
    sizes = {"depth": 3, "activation": activation}
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=data.train, arguments=sizes)
    return [ds.init.measure(problem, init=init, examples=64) for init in inits]


def figures(html: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" id="starts-\d+-data">(.*?)</script>', html, re.S)
    return [json.loads(each) for each in found]


def test_starts_alone_make_a_page_with_a_figure_for_each() -> None:
    html = report(*starts("tanh", "xavier", {"name": "normal", "std": 0.01})).html
    assert "<h1>Before the first step</h1>" in html
    drawn = figures(html)
    assert len(drawn) == 2
    for each in drawn:
        assert len(each["choices"]) == 3
        assert len(each["choices"][0]["data"]) == 3  # the hidden layers, between the bounds of tanh
        assert len(each["choices"][1]["data"]) == 4
    spans = [[choice["layout"]["xaxis"]["range"] for choice in each["choices"]] for each in drawn]
    assert spans[0] == spans[1]  # so that they can be compared


def test_a_start_stands_beside_a_run() -> None:
    data = ds.data.digits(scale=16)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=data.train)
    run = ds.fit(problem, ds.Recipe(steps=2), folder=False, progress=False)
    html = report(run, *starts("relu", "he")).html
    assert 'id="starts-title"' in html
    assert html.index("How training went") < html.index("At the start")


def test_the_table_has_what_was_measured() -> None:
    (start,) = starts("tanh", {"name": "normal", "std": 1.0})
    html = report(start).html
    shown = f"{100 * start.layers[1].after.saturated:.0f} %"
    assert shown in html
    assert start.layers[1].kind in html


@pytest.mark.parametrize("init", ["zeros", {"name": "normal", "std": 1e30}])
def test_layers_without_a_finite_or_nonzero_value_are_no_ridge_and_no_error(init: Any) -> None:
    drawn = figures(report(*starts("relu", init)).html)
    assert len(drawn) == 1
