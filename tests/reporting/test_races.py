"""A race in the report: every view draws what was measured, and every figure is one of plotly's."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError
from downslope.racing.batch_sizes import batch_sizes
from downslope.racing.profile import Profile
from downslope.racing.race import race
from downslope.racing.result import Race
from downslope.reporting.races import figures, plot, plot_batches


def _problem() -> ds.Problem:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 3)))
    y = (x[:, 0] > x[:, 1]).long()
    return ds.Problem(
        model=lambda: torch.nn.Linear(3, 2).double(), objective="cross_entropy", train=(x[:40], y[:40]),
        valid=(x[40:], y[40:]), name="line",
    )  # fmt: skip


@functools.cache
def found() -> Race:
    common = ds.Recipe(batch_size=10, epochs=3)
    return race(_problem(), ["sgd", "adam"], recipe=common, seeds=3, trials=4, progress=False)


def test_the_area_under_a_drawn_profile_is_the_score() -> None:
    for trace in plot(found(), "profile").data:
        name = trace.name.split()[0]
        x, y = np.asarray(trace.x, dtype=float), np.asarray(trace.y, dtype=float)
        assert (np.diff(x) * y[:-1]).sum() / 3 == pytest.approx(found().score_in("steps")[name], rel=1e-5)


def test_all_who_have_the_largest_area_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Profile, "score", lambda self: dict.fromkeys(self.names, 1.0))
    assert "is that of sgd and adam" in plot(found(), "profile").layout.title.text


def test_levels_curves_and_rates_are_those_of_the_runs() -> None:
    levels = plot(found(), "levels").data
    assert list(levels[0].x) == pytest.approx(found().entry("sgd").levels, rel=1e-5)
    assert levels[1].x[0] == pytest.approx(np.mean(found().entry("sgd").levels), rel=1e-5)
    curve = plot(found(), "curves").data[1]
    assert list(curve.y) == pytest.approx(
        np.median([one.levels for one in found().entry("sgd").raced], axis=0), rel=1e-5
    )
    rates = plot(found(), "rates").data[0]
    given = found().entry("sgd").given
    assert given is not None
    tried = sorted(one.values.get("lr", given.lr) for one in found().entry("sgd").tuning)
    assert list(rates.x) == pytest.approx(tried, rel=1e-5)


def test_bars_are_median_steps_and_what_never_arrived_is_said() -> None:
    bars = plot(found(), "times").data
    assert [bar.y[0] for bar in bars] == [
        each.median_steps if np.isfinite(each.median_steps) else None for each in found().entries
    ]


def test_a_report_holds_the_race_and_the_batch_sizes(tmp_path: Path) -> None:
    sizes = batch_sizes(
        _problem(), ds.Recipe(optimizer="sgd", epochs=1), (5, "full"), rate="same", progress=False
    )
    page = ds.report(found(), sizes).save(tmp_path / "r.html").read_text()
    assert "The race" in page
    assert "What the seeds say" in page
    assert "To be known" in page
    assert "got there" in page
    assert f"{found().entry('sgd').arrived} of 3" in page
    assert "training loss at the end" in page
    assert "Loss against the clock" in page
    assert "Training loss against the data by batch size" in page
    assert len(figures(found())) == 2
    assert list(plot_batches(sizes).data[0].y) == pytest.approx(sizes.curves[0].loss, rel=1e-5)


def test_another_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="this race has profile"):
        found().plot("pie")
