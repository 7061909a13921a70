"""Sharpness and noise along a run, drawn and told as they were tracked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from downslope.core.history import Series
from downslope.reporting import ground


def run(batch_size: int = 8, **tracked: list[float]) -> Any:
    series = {name: Series(np.arange(len(v)) * 10, np.array(v)) for name, v in tracked.items()}
    empty = Series(np.array([], dtype=np.int64), np.array([]))
    history = SimpleNamespace(series=lambda name: series.get(name, empty))
    return SimpleNamespace(history=history, choices={"batch_size": batch_size}, facts={})


def test_sharpness_has_its_residuals_and_the_limit_is_dashed_or_a_point() -> None:
    seen = {"sharpness": [1.0, 4.0], "sharpness_residual": [0.1, 0.2]}
    figure = ground.sharpness_figure(run(**seen, stable_limit=[5.0, 5.0]), "k")
    assert figure is not None
    line, limit = figure.choices[0].traces
    assert line["error_y"]["array"] == [0.1, 0.2]
    assert (limit["mode"], limit["line"]["dash"]) == ("lines", "dash")
    single = ground.sharpness_figure(run(sharpness=[1.0], stable_limit=[5.0]), "k")
    assert single is not None
    assert single.choices[0].traces[1]["mode"] == "markers"
    assert ground.sharpness_figure(run(), "k") is None
    assert ground.section(run()) is None


def test_the_peak_of_the_ratio_is_told_only_where_it_is_past() -> None:
    past = run(sharpness=[1.0, 9.0, 4.0], stability_ratio=[0.2, 1.9, 0.8])
    assert ground.words(past) == (
        "Sharpness 1 at step 0, 4 at step 20; 0.8 of the stable limit at the end, 1.9 of it at step 10."
    )
    assert ground.words(run(sharpness=[1.0, 4.0], stability_ratio=[0.2, 0.8])) == (
        "Sharpness 1 at step 0, 4 at step 10; 0.8 of the stable limit at the end."
    )
    past.facts = {"terrain": {"notes": ["dropout is held still"]}}
    assert ground.words(past).endswith("1.9 of it at step 10. Dropout is held still.")


@pytest.mark.parametrize(
    ("size", "said"), [(8, "larger ones save steps"), (64, "smaller ones cost few more steps")]
)
def test_the_noise_scale_tells_which_batches_pay(size: int, said: str) -> None:
    figure = ground.noise_figure(
        run(size, noise_scale=[10.0, 30.0], noise_scale_error=[1.0, float("inf")]), "k"
    )
    assert figure is not None
    line, level = figure.choices[0].traces
    assert line["error_y"]["array"] == [1.0, 0.0]
    assert level["y"].tolist() == [size, size]
    assert f"Batches hold {size}: {said}." in figure.choices[0].caption


def test_more_than_a_decade_is_drawn_on_a_logarithmic_axis() -> None:
    def axis(*values: float) -> Any:
        figure = ground.noise_figure(run(2, noise_scale=list(values)), "k")
        assert figure is not None
        return figure.choices[0].layout["yaxis"]

    assert axis(2.0, 300.0)["type"] == "log"
    assert axis(2.0, 8.0)["rangemode"] == "tozero"
