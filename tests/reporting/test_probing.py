"""Linear probes in the report: a point for each layer, the numbers beside it, on any page."""

from __future__ import annotations

import json
import re

import pytest

import downslope as ds
from downslope.reporting.report import report
from downslope.training.layer_probe import LayerProbe, LayerProbes

DIGITS = ds.data.digits(scale=16)
PROBLEM = ds.Problem(
    model="mlp", objective="cross_entropy", train=DIGITS.train, valid=DIGITS.valid, metric="accuracy"
)


@pytest.fixture(scope="module")
def probes() -> LayerProbes:
    return ds.probe_layers(PROBLEM, PROBLEM.build(0), examples=200)


def figures(html: str) -> list[dict]:
    found = re.findall(
        r'<script type="application/json" id="probes\d*-figure-data">(.*?)</script>', html, re.S
    )
    return [json.loads(each) for each in found]


def test_probes_alone_make_a_page_with_a_point_for_each_layer(probes) -> None:
    html = report(probes).html
    assert "<h1>Layer by layer</h1>" in html
    (drawn,) = figures(html)
    train, valid = drawn["choices"][0]["data"]
    assert valid["y"] == pytest.approx([row.valid for row in probes], rel=1e-5)
    assert train["y"] == pytest.approx([row.train for row in probes], rel=1e-5)
    assert valid["error_y"]["array"] == pytest.approx([row.stderr for row in probes], rel=1e-4)
    assert drawn["choices"][0]["layout"]["shapes"][0]["y0"] == pytest.approx(probes.own)
    assert drawn["choices"][0]["layout"]["xaxis"]["ticktext"][:2] == ["input", "1 Linear"]


def test_probes_stand_beside_a_run_and_before_and_after_have_a_figure_each(probes) -> None:
    run = ds.fit(PROBLEM, ds.Recipe(steps=2), folder=False, progress=False)
    html = report(run, probes, ds.probe_layers(PROBLEM, run.model(), examples=200)).html
    assert len(figures(html)) == 2
    assert "What each layer tells</h2>" in html
    assert "What each layer tells, 2</h2>" in html
    assert 'id="probes1-title"' in html


def test_names_of_layers_are_text_and_what_is_not_finite_is_left_out() -> None:
    row = LayerProbe("<b>", "Net", (), 1, 0.5, 0.25, float("nan"))
    html = report(LayerProbes((row,), "accuracy", float("nan"), 4)).html
    assert "<b>" not in html.partition("<main")[2].replace("<body>", "")
    (drawn,) = figures(html)
    assert "shapes" not in drawn["choices"][0]["layout"]
    assert drawn["choices"][0]["data"][1]["error_y"]["array"] == [None]
