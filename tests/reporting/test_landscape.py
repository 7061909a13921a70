"""Pictures of slices, ways and connections, against the numbers that they were given."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import downslope as ds
from downslope.core.errors import InputError
from downslope.reporting import landscape, ways
from downslope.terrain.functions import get
from downslope.terrain.modes.connect import Between, Connection
from downslope.terrain.slices.slice import Axis, Mark, Slice, Trail
from downslope.terrain.slices.surface import surface

X, Y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 10.0, 20.0, 30.0])


def plane(**changes) -> Slice:
    """f = x + y/10 on 3 by 4 points."""
    given = {
        "title": "slope", "quantity": "loss", "axes": (Axis("a, long", X), Axis("b", Y)),
        "values": X[:, None] + Y / 10, "evaluated": np.ones((3, 4), dtype=bool),
    }  # fmt: skip
    return Slice(**(given | changes))


def holed() -> Slice:
    values, evaluated = plane().values.copy(), np.ones((3, 4), dtype=bool)
    values[2, 3], values[0, 1:3], evaluated[0, 1:3] = np.inf, np.nan, False
    return plane(values=values, evaluated=evaluated)


def views(found) -> dict:
    return {each.name: each for each in landscape.figure(found).choices}


def test_heights_stand_over_their_own_coordinates() -> None:
    shown = views(plane())
    for name in ("contours", "surface"):
        ground = shown[name].traces[0]
        assert np.asarray(ground["z"])[3, 1] == pytest.approx(4.0)  # x 1, y 30
        assert ground["text"][3][1] == "4"
    assert shown["contours"].caption == ("Loss at 3 × 4 points. Lowest is 0 at (0, 0). Over a, long by b.")


def test_what_is_not_finite_and_what_is_not_there_is_marked_and_counted() -> None:
    shown = views(holed())["contours"]
    dots = {each["name"]: (list(each["x"]), list(each["y"])) for each in shown.traces[1:]}
    assert dots == {
        "not finite (1 points)": ([2.0], [30.0]), "not evaluated (2 points)": ([0.0, 0.0], [10.0, 20.0]),
    }  # fmt: skip
    assert " At 1 points it is not finite." in shown.caption
    assert " 2 points were not evaluated." in shown.caption
    assert "Colours are on a logarithmic scale." in landscape.words(plane(log=True))
    line = plane(axes=(Axis("a", X),), values=np.array([2.0, np.nan, 1.0]), evaluated=np.ones(3, dtype=bool))
    (cross,) = [each for each in views(line)["line"].traces if "not finite" in str(each.get("name"))]
    assert (list(cross["x"]), list(cross["y"])) == ([1.0], [1.0])


def test_points_of_note_have_the_signs_of_their_kind() -> None:
    marks = (Mark((1.0, 10.0), "global minimum", 2.0, "minimum"), Mark((0.0, 0.0), "minimum", 0.0, "minimum"))
    drawn = {each["name"]: each for each in views(plane(marks=marks))["contours"].traces if "name" in each}
    assert (drawn["global minimum"]["x"], drawn["global minimum"]["y"]) == ([1.0], [10.0])
    assert drawn["global minimum"]["marker"]["symbol"] == "star"
    assert drawn["minimum"]["marker"]["symbol"] == "star-open"


def test_a_way_is_thinned_to_what_can_be_seen_and_lies_on_the_ground() -> None:
    rest = np.concatenate([np.zeros((50, 2)), [[1.0, 10.0], [1.0, 10.0], [9.0, 10.0]]])
    found = plane(trails=(Trail("w", rest, np.full(53, np.nan)), Trail("v", rest, np.full(53, 1.5))))
    track = next(each for each in views(found)["contours"].traces if each.get("name") == "w")
    assert list(track["x"]) == [0.0, 1.0, 9.0]
    under, told = views(found)["surface"].traces[1:]
    lift = 0.012 * 5.0  # of the height of the ground
    assert under["z"][:2] == pytest.approx([lift, 2.0 + lift])
    assert told["z"][:2] == pytest.approx([1.5 + lift, 1.5 + lift])
    assert math.isnan(under["z"][2])  # beside it
    assert math.isnan(told["z"][2])
    turns = np.stack([np.linspace(0, 2, 3000), np.where(np.arange(3000) % 2, 0.0, 30.0)], 1)
    many = plane(trails=(Trail("w", turns, np.zeros(3000)),))
    track = next(each for each in views(many)["contours"].traces if each.get("name") == "w")
    assert len(track["x"]) == landscape.DRAWN
    assert track["x"][-1] == 2.0


def joined() -> Connection:
    at, losses, errors = np.array([0.0, 0.5, 1.0]), np.array([1.0, 3.0, 1.0]), np.array([0.1, 0.2, 0.1])
    way = Between(
        name="straight", at=at, losses=losses, errors=errors, barrier=2.0, barrier_error=0.2, length=1.0
    )
    return Connection(ways=(way,))


def test_between_two_models_bars_are_two_standard_errors() -> None:
    (drawn,) = views(joined())["loss"].traces
    assert drawn["error_y"]["array"].tolist() == [0.2, 0.4, 0.2]
    stills = pytest.importorskip("downslope.reporting.stills")
    pytest.importorskip("matplotlib")
    (axis,) = stills.draw(joined()).axes
    (band,) = axis.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.8, 3.4))


def test_stills_of_a_plane_that_is_no_square_hatch_the_right_place(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    from downslope.reporting import stills

    axis = stills.draw(holed()).axes[0]
    legend = [each.get_text() for each in axis.get_legend().get_texts()]
    assert legend == ["not finite (1 points)", "not evaluated (2 points)"]
    assert stills.draw(holed(), "surface").axes[0].get_title(loc="left") == "slope"
    line = plane(axes=(Axis("a", X),), values=np.array([1.0, 10.0, 100.0]), evaluated=np.ones(3, dtype=bool))
    scales = [stills.draw(replace(line, log=log)).axes[0].get_yscale() for log in (True, False)]
    assert scales == ["log", "linear"]
    with pytest.raises(InputError, match="kind='relief': must be"):
        stills.draw(plane(), "relief")
    (tmp_path / "file").write_text("")
    for name in ("a.png", "a.json"):
        with pytest.raises(InputError, match="cannot be written") as told:
            plane().save(tmp_path / "file" / name)
        assert "\n" not in str(told.value)


def told(found: ds.terrain.paths.paths.Paths) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for row in ways.paths_rows(found):
        said.setdefault(row.label, []).append(row.text)
    return said


def test_the_table_of_ways_tells_what_is_known_of_the_function_and_marks_who_arrived() -> None:
    found = ds.paths("x_cos_pi_x", {"gd": 0.01, "newton": {}}, start=(0.6,), steps=500, points=5)
    rows = ways.paths_rows(replace(found, notes=("a note",)))
    assert [row.tone for row in rows[2:4]] == ["good", "good"]
    left = ways.paths_rows(ds.paths("x_cos_pi_x", {"gd": 0.01}, steps=500, points=5))
    assert left[2].tone == "plain"
    assert [(row.text, row.tone) for row in rows if row.label == "note"] == [("a note", "faint")]
    (known,) = told(found)["known"]
    assert known == "the lowest value is -1.05, at (1.09), and 1 local minimum"
    assert told(found)["shows"] == [get("x_cos_pi_x").shows]
    gone = found.ways[0]
    lost = replace(gone, at=np.array([[0.6], [np.inf]]), values=np.array([0.0, np.inf]), status="diverged")
    assert ways._cells(lost)[2] == ""
    assert ways._cells(gone)[2] == "(1.09)"


def test_by_evaluations_the_height_above_the_lowest_value_is_drawn() -> None:
    found = ds.paths("x_cos_pi_x", {"gd": 0.01}, start=(0.6,), steps=5, points=5)
    (drawn,) = views(found)["by evaluations"].traces
    lowest = get("x_cos_pi_x").lowest[0].value
    assert drawn["y"] == pytest.approx(found["gd"].values - lowest)
    assert drawn["x"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_slice_is_told_by_where_it_stands_and_its_lowest_point() -> None:
    found = plane(marks=(Mark((1.0, 10.0), "here", 2.0),), notes=("a note",))
    assert [row.text for row in ways.slice_rows(found)] == [
        "loss at 3 x 4 points over a, long and b, 2 here, lowest 0 at (0, 0)", "a note",
    ]  # fmt: skip


def test_a_note_begins_with_a_large_letter_but_for_the_name_of_what_it_is_of() -> None:
    page = landscape.slice_section(plane(notes=("dropout is off", "gd: lr 0.1"))).body
    assert "Dropout is off." in page
    assert "gd: lr 0.1." in page


def test_a_ground_of_many_decades_is_on_a_logarithmic_scale_and_many_minima_are_the_lowest_alone() -> None:
    assert surface("rosenbrock", points=21).log
    assert not surface("saddle", points=21).log
    many = surface("rastrigin", points=5)
    assert len(many.marks) == len(get("rastrigin").lowest) < len(get("rastrigin").critical)
    with pytest.raises(InputError, match="a surface has one or two"):
        surface("rosenbrock(dimension=3)")
    with pytest.raises(InputError, match="points=2"):
        surface("bowl", points=2)
