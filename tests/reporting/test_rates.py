"""The page of a range test: what is drawn is what was measured, and a refusal says why."""

from __future__ import annotations

import math

import torch

import downslope as ds
from downslope.reporting.rates import figure
from downslope.training.rate_range import RateRange, Row


def made(reason: str | None = None) -> RateRange:
    rows = (
        Row(0.01, 2.0, 0.2, 0.01, True, (0.2,)),
        Row(0.1, 0.5, 0.8, 0.02, True, (0.8,)),
        Row(1.0, math.nan, -math.inf, math.nan, False, (-math.inf,)),
    )
    none = reason is not None
    return RateRange(
        low=None if none else 0.05, high=None if none else 0.2, suggested=None if none else 0.1,
        interval=None if none else (0.1, 0.1), limit=(0.1, 1.0), reason=reason, table=rows, steps=60,
        seeds=(0, 1, 2), seconds=1.0, baseline=2.5,
    )  # fmt: skip


def test_the_curve_is_the_table_and_leaves_out_what_diverged() -> None:
    drawn = figure(made())
    line = drawn.choices[0].traces[0]
    assert line["x"] == [0.01, 0.1]
    assert line["y"] == [2.0, 0.5]
    assert line["error_y"]["array"] == [2 * 0.01 * 2.5, 2 * 0.02 * 2.5]
    assert "best, 0.1" in drawn.choices[0].caption


def test_a_page_of_ranges_alone_and_beside_a_run() -> None:
    alone = ds.report(made()).html
    assert "Learning rates" in alone
    assert "stable up to 0.1, not at 1" in alone
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, x.sum(1)))
    run = ds.fit(problem, ds.Recipe(epochs=1), folder=False, progress=False)
    assert 'id="range"' in ds.report(run, made()).html


def test_a_refusal_says_why_on_the_page() -> None:
    assert "No learning rate: the target is constant" in ds.report(made("the target is constant")).html
