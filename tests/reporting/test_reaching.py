"""Lags and steps in the report: every lag a point, every rate a row, on any page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

import downslope as ds
from downslope.reporting.report import report

ADDING = ds.Problem(
    model="lstm",
    objective="squared_error",
    train=ds.data.adding(n=40, steps=12).train,
    arguments={"width": 4},
)


def drawn(html: str, key: str) -> dict[str, Any]:
    (found,) = re.findall(
        rf'<script type="application/json" id="{key}-figure-data">(.*?)</script>', html, re.S
    )
    return json.loads(found)


def test_the_lags_of_a_run_stand_beside_it_with_a_point_for_each() -> None:
    run = ds.fit(ADDING, ds.Recipe(optimizer="adam", steps=3), folder=False, progress=False)
    found = ds.lags(ADDING, run)
    html = report(run, found).html
    figure = drawn(html, "lags")
    views = {choice["data"][0]["name"]: choice["data"][0] for choice in figure["choices"]}
    assert views["largest"]["x"] == list(range(12))
    assert views["largest"]["y"] == pytest.approx(found.largest.tolist(), rel=1e-4)
    assert views["output by input"]["y"][0] == pytest.approx(float(found.profile[-1]), rel=1e-4)
    assert "How far back cell reaches" in html
    assert "weight_hh_l0 forget" in html


def test_a_step_alone_makes_a_page_and_what_is_not_finite_is_shown_as_such() -> None:
    found = ds.expansion(ADDING, lr=[0.1, 1e30])
    html = report(found).html
    foretold, happened = drawn(html, "step")["choices"][0]["data"]
    assert foretold["y"][0] == pytest.approx(found.steps[0].predicted, rel=1e-4)
    assert happened["y"][0] == pytest.approx(found.steps[0].actual, rel=1e-4)
    assert "What a step changes" in html
