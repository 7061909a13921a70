"""The terrain in the terminal, on the page and as a figure, against the numbers that it was given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.reporting import terrain as drawn
from downslope.terrain.noise import Noise
from downslope.terrain.surveys.profile import Profile
from downslope.terrain.surveys.terrain import Escape, Layer, Terrain


@pytest.fixture(scope="module")
def slope() -> Terrain:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=draw)
    problem = ds.Problem(
        model=lambda: torch.nn.Linear(3, 1), objective="squared_error", train=(x, x.sum(1, keepdim=True))
    )
    return ds.survey(problem, progress=False)


@pytest.mark.parametrize(
    ("kind", "at", "changes", "said"),
    [
        ("slope", "start", {}, "train: descent leads on from here"),
        (
            "slope",
            "last",
            {"slope_gain": 0.25},
            "train on: within this reach alone the slope could still win 0.25",
        ),
        ("minimum", "last", {}, "nothing: the problem is convex"),
        ("minimum", "last", {"convexity": None}, "descent ends here; what is lower needs another start"),
        ("maximum", "last", {"maximize": True}, "nothing: what was to be maximised is at a maximum"),
        ("maximum", "last", {}, "any step leads down: look for the sign of the objective"),
        ("saddle", "last", {}, "leave it along the way down"),
        ("plateau", "last", {}, "look for units that are dead"),
    ],
)
def test_each_kind_has_its_advice(slope, kind, at, changes, said) -> None:
    assert drawn.advice(replace(slope, kind=kind, **changes), at).startswith(said)


def test_a_gradient_that_is_zero_for_every_example_is_told_and_one_with_noise_is_not(slope) -> None:
    rest = replace(slope, kind="saddle", gradient_norm=0.0, noise_scale=None)
    assert drawn.at_rest(rest)
    assert drawn.advice(rest).endswith("perturb the weights at random")
    assert slope.noise_scale is not None
    noisy = Noise(*slope.noise_scale)._replace(trace=1.0)
    assert not drawn.at_rest(replace(rest, noise_scale=noisy))
    assert drawn.at_rest(replace(rest, noise_scale=noisy._replace(trace=0.0)))
    assert not drawn.at_rest(replace(rest, gradient_norm=1.0))


def test_what_is_next_hangs_on_where_one_stands(slope) -> None:
    def last(kind: str, at: str) -> str:
        return drawn.rows(replace(slope, kind=kind), "TASK", "name", at)[-1].text

    assert last("saddle", "start") == "downslope fit TASK"
    assert last("saddle", "last") == last("plateau", "last") == "downslope diagnose TASK"
    assert last("minimum", "last") == "downslope report TASK"


def two(slope: Terrain) -> Terrain:
    layers = (
        Layer("first", 3, 1.0, 0.5, 4.0, 0.1),
        Layer("last", 3, 2.0, 0.0, 1.0),
        Layer("odd", 1, 3.0, 0.0),
    )
    values, errors = torch.tensor([4.0, 0.1, -3.0]).double(), torch.tensor([0.1, 0.2, 0.3]).double()
    along = Profile(lengths=(-1.0, 0.0, 1.0, 2.0), losses=(9.5, 10.0, 9.0, 12.0))
    way = Escape(curvature=-3.0, error=0.1, by_name={}, flat=torch.ones(1), profile=along, fall=1.0, at=1.0)
    return replace(
        slope, kind="saddle", layers=layers, eigenvalues=values, residuals=errors, escape=way,
        notes=("a note",),
    )  # fmt: skip


def test_rows_have_a_bar_for_each_layer_and_every_note(slope) -> None:
    rows = drawn.rows(two(slope))
    bars = [row.text for row in rows if "trace" in row.text and "#" in row.text]
    assert [bar.count("#") for bar in bars] == [24, 6]
    assert bars[0].endswith("trace 1 +- 0.5")
    assert bars[1].endswith("trace 2")
    assert any("not measured  trace 3" in row.text for row in rows)
    assert [(row.text, row.tone) for row in rows if row.label == "note"] == [("a note", "faint")]
    assert not any("#" in row.text for row in drawn.rows(replace(two(slope), layers=two(slope).layers[:1])))


def test_every_view_draws_what_was_measured(slope) -> None:
    found = two(slope)
    views = {each.name: each for each in drawn._choices(found)}
    assert list(views) == ["spectrum", "layers", "way down"]
    (spectrum,) = views["spectrum"].traces
    assert spectrum["marker"]["color"] == ["@accent", "@muted", "@bad"]
    assert spectrum["error_y"]["array"] == found.residuals.tolist()
    (bars,) = views["layers"].traces
    assert (bars["x"], bars["y"], bars["error_y"]["array"][0]) == (["first", "last"], [4.0, 1.0], 0.1)
    measured, parabola = views["way down"].traces
    assert measured["y"] == [9.5, 10.0, 9.0, 12.0]
    assert parabola["y"] == pytest.approx([8.5, 10.0, 8.5, float("nan")], nan_ok=True)
    assert found.escape is not None
    sampled = replace(found, escape=replace(found.escape, curvature=-3.0, error=5.0))
    assert drawn._choices(sampled)[-1].traces[1]["y"] == [10.0] * 4
    assert "a direction that samples found" in drawn._choices(sampled)[-1].caption
    page = drawn.section(found).body
    assert "a note" in page
    parts = replace(found, complete=False)
    assert drawn._choices(parts)[0].traces[0]["x"] == ["1", "2", "smallest"]
    assert "3 eigenvalues of both ends" in drawn._choices(parts)[0].caption


def test_a_density_is_drawn_within_its_error(slope) -> None:
    values, error = np.array([1.0, 2.0]), np.array([0.25, 0.5])
    made = type("Made", (), {"grid": np.array([0.0, 1.0]), "values": values, "error": error, "width": 0.1})
    (view,) = [each for each in drawn._choices(replace(slope, density=made)) if each.name == "density"]
    upper, lower, middle = (np.asarray(each["y"]).tolist() for each in view.traces)
    assert (upper, lower, middle) == ([1.25, 2.5], [0.75, 1.5], [1.0, 2.0])
