"""Ways over functions against recurrences by hand, and where SciPy ends."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import optimize

import downslope as ds
from downslope.core.errors import DownslopeError, InputError, ObjectiveError, RecipeError, UnknownNameError
from downslope.terrain.paths import walk


def test_the_steps_are_those_of_the_formulas() -> None:
    found = ds.paths("bowl", {"gd": 0.4, "momentum": {"lr": 0.6, "momentum": 0.5}}, steps=20, points=5)
    assert found["gd"].at[-1] == pytest.approx([-0.943467, -7.31e-5], abs=5e-7)  # ANCHORS
    x, velocity = np.array([-5.0, -2.0]), np.zeros(2)
    for _ in range(20):
        velocity = 0.5 * velocity + np.array([0.2, 4.0]) * x
        x = x - 0.6 * velocity
    assert found["momentum"].at[-1] == pytest.approx(x, rel=1e-10)
    assert x == pytest.approx([0.007188, 0.002553], abs=5e-7)  # Dive into Deep Learning, section 12.6
    assert found["gd"].at.shape == (21, 2)
    assert found["gd"].values[0] == pytest.approx(10.5)
    assert ds.paths("bowl", {"gd": 0.6}, steps=20, points=5)["gd"].at[-1][1] == pytest.approx(-1673.3651)


def test_a_diverging_way_is_told_and_the_picture_keeps_its_place() -> None:
    found = ds.paths("bowl", {"gd": 1.5}, steps=100, points=5)
    assert found["gd"].ended == "diverged"
    assert found["gd"].steps < 100
    assert found.surface is not None
    assert found.surface.axes[1].coordinates[-1] < 10


def test_methods_of_curvature_walk_too_and_end_where_scipy_does() -> None:
    found = ds.paths("rosenbrock", ["newton", "lbfgs"], steps=100, points=5)
    scipy = optimize.minimize(optimize.rosen, (-1.2, 1.0), jac=optimize.rosen_der, method="BFGS")
    for way in found.ways:
        assert way.at[-1] == pytest.approx(scipy.x, abs=1e-5)
        assert way.ended == "global minimum"
        assert way.evaluations[-1] >= way.steps
    assert found["newton"].steps < 40


def test_a_rate_that_is_not_given_is_found_and_told() -> None:
    found = ds.paths("matyas", "gd", steps=300, points=5)
    assert found["gd"].ended == "global minimum"
    assert 0.3 <= found["gd"].settings["lr"] < 2  # the limit is 2 over the curvature of 1
    assert "the best of 11" in found.notes[0]
    assert not ds.paths("matyas", "gd", lr=0.5, steps=5, points=5).notes


def test_a_rate_without_a_spike_is_preferred_to_one_that_ends_lower() -> None:
    found = ds.paths("rosenbrock", "gd", steps=1000, points=5)
    way = found["gd"]
    rises = way.values - np.minimum.accumulate(way.values)
    assert rises.max() < 1e-9
    assert way.settings["lr"] == 0.001
    assert "without a spike: 0.003 ends lower, but its value rises by" in found.notes[0]
    swinging = ds.paths("bowl", "momentum", steps=400, points=5)  # rises are momentum's own manner
    assert swinging["momentum"].ended == "global minimum"
    assert "spike" not in swinging.notes[0]


def test_one_method_that_fails_is_told_in_its_row_and_the_others_are_drawn() -> None:
    found = ds.paths("matyas", ["newton", "kfac"], steps=20, points=5)
    assert found["newton"].ended == "global minimum"
    assert found["kfac"].status == "failed"
    assert found["kfac"].ended == "failed at step 1: see its note"
    assert found.notes[0].startswith("kfac: failed at step 1: ")
    assert found.surface is not None
    assert [trail.name for trail in found.surface.trails] == ["newton, lr 1"]
    assert "kfac" in ds.report(found).html
    with pytest.raises(DownslopeError):
        ds.paths("matyas", "kfac", points=5)


def test_a_listed_saddle_or_maximum_is_called_by_its_name() -> None:
    found = ds.paths("x^2_y^2", {"gd": 0.05}, start=(1.0, 0.0), points=5)["gd"]
    assert found.ended == "the saddle at (0, 0)"
    assert found.nearest is not None
    assert (found.nearest.kind, found.kind) == ("saddle", "")
    assert found.distance < 1e-6
    top = next(each for each in ds.functions.get("himmelblau").critical if each.kind == "maximum")
    way = ds.paths("himmelblau", ["lbfgs"], start=top.at, steps=5, points=5)["lbfgs"]
    assert way.ended.startswith("the maximum at (-0.27")


def test_a_function_of_ones_own_is_walked_from_a_start() -> None:
    found = ds.paths(
        lambda p: (p - 4).square().sum(-1), {"gd": 0.25, "newton": {}}, start=(0.0, 1.0), points=9
    )
    assert found["gd"].at[1] == pytest.approx([2.0, 2.5])
    assert [way.ended for way in found.ways] == ["a minimum", "a minimum"]
    assert found.surface is not None
    (low, high), _ = ((axis.coordinates[0], axis.coordinates[-1]) for axis in found.surface.axes)
    assert -1 < low < 0 < 4 < high < 5
    plain = {"newton": {"line_search": None}}
    for sign, kind in ((-1.0, "a saddle"), (1.0, "a minimum")):
        ground = lambda p, sign=sign: p[..., 0] ** 2 + sign * p[..., 1] ** 2  # noqa: E731
        assert ds.paths(ground, plain, start=(1.0, 0.5), steps=9, points=5)["newton"].ended == kind
    down = ds.paths(lambda p: p.sum(-1), ["gd"], start=(1.0, 0.0), steps=5, points=5)
    assert down["gd"].ended == "on its way down"
    assert "no minimum is known" in down.notes[0]
    steep = ds.paths(lambda p: 100 * p.sum(-1), ["gd", "adam"], start=(1.0, 0.0), steps=2, points=5)
    assert [way.settings["lr"] for way in steep.ways] == [
        0.0003,
        0.04,
    ]  # 0.04 over the slope; 0.04
    given = ds.paths(lambda p: p.sum(-1), "gd", start=(1.0,), steps=5, points=5, domain=[(-3, 3)]).surface
    assert given is not None
    assert given.axes[0].coordinates[[0, -1]].tolist() == [-3, 3]
    flat = ds.paths(lambda p: p[..., 0].square(), {"gd": 0.25}, start=(1.0, 2.0), steps=5, points=5).surface
    assert flat is not None
    assert flat.axes[1].coordinates[0] < 2 < flat.axes[1].coordinates[-1]  # where nothing moves there is room
    assert "own function" in ds.report(down).html or "one&#x27;s own" in ds.report(down).html


def test_local_and_global_minima_are_told_apart() -> None:
    left = ds.paths("x_cos_pi_x", {"gd": 0.01}, steps=500, points=5)["gd"]
    right = ds.paths("x_cos_pi_x", {"gd": 0.01}, start=(0.6,), steps=500, points=5)["gd"]
    assert (left.ended, right.ended) == ("local minimum", "global minimum")
    assert left.distance < 1e-6
    away = ds.paths("saddle", {"gd": 0.1}, steps=200, points=5)["gd"]
    assert away.ended == "downhill, out of the domain"


def test_of_many_coordinates_the_values_are_drawn() -> None:
    found = ds.paths("rosenbrock(dimension=4)", {"newton": {}}, steps=50)
    assert found.surface is None
    assert [each.name for each in found.plot().data] == ["newton, lr 1"]


def test_it_saves_pages_stills_and_numbers(tmp_path) -> None:
    found = ds.paths("himmelblau", {"gd": 0.01, "adam": 0.3}, steps=30, points=15)
    page = found.save(tmp_path / "ways.html").read_text()
    assert "gd, lr 0.01" in page
    assert json.loads(found.save(tmp_path / "ways.json").read_text())["paths"][0]["optimizer"] == "gd"
    pytest.importorskip("matplotlib")
    assert found.save(tmp_path / "ways.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in found.save(tmp_path / "ways.svg", "surface").read_text()
    assert found.save(tmp_path / "values.svg", "values").stat().st_size > 0
    with pytest.raises(InputError, match="must end in"):
        found.save(tmp_path / "ways.gif")


def test_marks_are_the_critical_points_and_values_the_functions() -> None:
    found = ds.paths("himmelblau", {"gd": 0.01}, steps=2, points=11).surface
    assert found is not None
    assert [mark.kind for mark in found.marks].count("saddle") == 4
    at = found.axes[0].coordinates[3], found.axes[1].coordinates[7]
    assert found.values[3, 7] == pytest.approx(ds.functions.get("himmelblau").at(*at))
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"function": "rosenbrok"}, UnknownNameError, "did you mean 'rosenbrock'"),
        ({"optimizers": ["adamm"]}, UnknownNameError, "did you mean 'adam'"),
        ({"optimizers": []}, InputError, "none; name some"),
        ({"start": (1.0,)}, InputError, "takes 2 finite coordinates"),
        ({"steps": 0}, InputError, "at least 1"),
        ({"function": lambda p: p.sum(-1)}, InputError, "needs start="),
        ({"function": lambda p: p.sum(), "start": (1.0, 2.0)}, ObjectiveError, "a value for each"),
        ({"function": 3}, InputError, "int is no function"),
        ({"domain": [(0, 1)]}, InputError, "an upper end for each of 2"),
        ({"domain": [(0, 1), (1, 0)]}, InputError, "an upper end for each of 2"),
        ({"optimizers": {"gd": {"momntum": 0.9}}}, RecipeError, "no setting of gd"),
        ({"lr": {"sgd": 0.1}}, InputError, "does not run"),
    ],
)
def test_what_cannot_walk_is_told(options, error, said) -> None:
    with pytest.raises(error, match=said):
        ds.paths(**({"function": "beale", "optimizers": ["gd"], "steps": 3, "points": 5} | options))


def test_ctrl_c_keeps_the_ways_that_were_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, count = walk.Walk.step, 0

    def step(self: walk.Walk) -> object:
        nonlocal count
        count += 1
        if count == 26:
            raise KeyboardInterrupt
        return kept(self)

    monkeypatch.setattr(walk.Walk, "step", step)
    found = ds.paths("beale", {"gd": 0.001, "momentum": 0.001, "adam": 0.01}, steps=20)
    assert found.interrupted
    assert [(way.optimizer, way.steps) for way in found.ways] == [("gd", 20), ("momentum", 5)]
    assert "ended by Ctrl-C, before adam began: what is told is until then" in found.notes
