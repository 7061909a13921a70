"""Animations, against the paths that they were made of."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import downslope as ds
from downslope.core.errors import InputError
from downslope.reporting import gif, hues
from downslope.reporting.animation import Animation, animate, escaping
from downslope.terrain import functions

pytest.importorskip("matplotlib")


def spiral(turns: float, steps: int = 40) -> np.ndarray:
    t = np.linspace(0, 1, steps + 1)
    return np.stack([(1 - t) * np.cos(turns * t), (1 - t) * np.sin(turns * t)], 1)


@pytest.fixture(scope="module")
def two() -> Animation:
    return animate({"one": spiral(3), "other": spiral(-6, 20)}, functions.get("saddle"))


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def images(written: bytes) -> list[np.ndarray]:
    whole = Image.open(io.BytesIO(written))
    found = []
    for frame in range(whole.n_frames):
        whole.seek(frame)
        found.append(np.asarray(whole.convert("RGB")).astype(int))
    return found


def near(picture: np.ndarray, code: str) -> int:
    colour = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(picture - colour).sum(2) < 8).sum())


def test_the_page_holds_every_step_of_every_path_and_loads_nothing(two):
    page = two.html
    described = data_of(page)
    assert described["frames"] == [f"step {i}" for i in range(41)]
    traces = described["choices"][0]["data"]
    heads = {each["name"]: each for each in traces if each.get("meta") == "heads"}
    track = next(each for each in traces if each.get("meta") == "path")
    assert np.array(heads["one"]["x"])[:, 0] == pytest.approx(spiral(3)[:, 0], abs=1e-5)
    assert track["y"] == pytest.approx(spiral(3)[:, 1], abs=1e-5)
    # One that ends before the others stays where it is.
    assert np.array(heads["other"]["y"])[20:, 0] == pytest.approx(0.0, abs=1e-5)
    assert not re.search(r"(src|href)=\"?https?:", page)
    assert 'type="range"' in page


def test_the_curve_beside_the_map_is_the_functions_value_at_the_path(two):
    curves = [each for each in data_of(two.html)["choices"][0]["data"] if each.get("xaxis") == "x2"]
    x, y = spiral(3).T
    assert curves[0]["y"] == pytest.approx(x**2 - y**2, abs=1e-5)


def test_a_gif_has_a_frame_a_step_each_mover_in_its_own_colour_and_rests_at_its_end(two):
    written = two.gif(width=400, seconds=2.0)
    frames = images(written)
    assert len(frames) == 41
    assert frames[0].shape[1] == 400
    for code in hues.COLOURS[:2]:
        assert near(frames[-1], code) > near(frames[1], code) > 0
        for side in (slice(0, 220), slice(260, 400)):  # the track on the map, the curve beside it
            assert near(frames[-1][:, side], code) > near(frames[1][:, side], code) + 20
    whole = Image.open(io.BytesIO(written))
    whole.seek(40)
    assert whole.info["duration"] == 1500
    whole.seek(10)
    assert whole.info["duration"] == 50  # 2 s over 41 frames
    assert whole.info["loop"] == 0
    assert "loop" not in Image.open(io.BytesIO(two.gif(width=300, repeat=False))).info


def test_every_mover_keeps_a_colour_and_a_sign_apart():
    assert len(set(hues.SIGNS)) == len(hues.SIGNS) == len(hues.COLOURS) == len(set(hues.COLOURS))
    many = animate(
        {str(i): spiral(i + 1, 3) for i in range(8)}, functions.get("bowl"), span=[[-1, 1], [-1, 1]]
    )
    last = images(many.gif(width=600))[-1]
    assert all(near(last, code) > 5 for code in hues.COLOURS)


def test_long_paths_stop_at_some_steps_only_and_draw_them_all():
    long = animate({"long": np.linspace(-0.9, 1.0, 5001)[:, None]}, functions.get("x_cos_pi_x"))
    assert (long.scene.steps[0], long.scene.steps[-1], len(long.scene.steps)) == (0, 5000, 120)
    assert len(long.html) < 2_500_000
    curve = data_of(long.html)["choices"][0]["data"][-1]
    assert len(curve["x"]) == 5001  # every step is drawn, frames only stop at some
    assert [curve["stops"][0], curve["stops"][-1]] == [1, 5001]


def test_a_path_that_runs_to_infinity_is_shown_as_far_as_it_goes():
    away = np.stack([np.zeros(30), 10.0 ** np.arange(0, 300, 10.0)], 1)
    away[-2:] = [[np.inf, 0.0], [np.nan, np.nan]]
    shown = animate({"away": away}, functions.get("rosenbrock"))
    assert "null" in shown.html
    assert 2 <= len(images(shown.gif(width=300))) <= 30  # Pillow joins frames that are alike
    own = animate({"away": away[:3]}, lambda p: p.square().sum(-1))
    assert own.scene.axes[1][-1] > 1e20


def test_an_escape_moves_all_members_and_tells_how_many_left(tmp_path):
    found = ds.escape("double_well", ["gd", "momentum"], noise=0.3, steps=60, seeds=6, keep=6, spread=1e-3)
    moving = found.animate()
    told = moving.scene.movers[1].told
    assert told[0] == "0/6 left"
    assert told[-1] == f"{found['momentum'].escaped}/6 left"
    assert moving.scene.movers[1].curve[-1] == found["momentum"].probability
    (shown,) = data_of(moving.html)["choices"]
    heads = [each["name"] for each in shown["data"] if each.get("meta") == "heads"]
    assert heads[1] == f"momentum {told[-1]}"
    assert shown["layout"]["yaxis2"]["range"] == [-0.02, 1.03]
    page = ds.report(found).save(tmp_path / "escape.html").read_text()
    assert "Who leaves" in page
    assert 'class="player"' in page
    assert moving.save(tmp_path / "escape.gif", width=300).stat().st_size > 1000


def test_a_point_that_is_none_of_note_is_marked_all_the_same():
    found = ds.escape(lambda p: p.sum(-1), "gd", point=[0.0, 0.0], steps=40, seeds=2, keep=2)
    shown = found.animate(title="Down").scene
    assert [(mark.name, mark.kind) for mark in shown.marks] == [("the slope", "here")]
    assert shown.title == "Down"
    assert found.animate().scene.title.startswith("Who leaves: <lambda>")


def test_what_is_missing_of_an_escape_is_told_on_its_page():
    found = ds.escape("saddle", "gd", steps=3, seeds=2)
    assert "The budget left out adam." in ds.report(replace(found, notes=("the budget left out adam",))).html


def test_an_escape_is_seen_on_its_own_ground_and_ends_soon_after_the_last_has_left():
    found = ds.escape("saddle", ["gd", "momentum"], steps=400, seeds=5, keep=5)
    shown = found.animate().scene
    last = max(each.left.max() for each in found)
    assert 0 < last < 200
    assert last < shown.steps[-1] < 1.2 * last + 6
    domain = functions.get("saddle").domain
    assert [(axis[0], axis[-1]) for axis in shown.axes] == [pytest.approx(each) for each in domain]
    assert [(mark.at, mark.kind) for mark in shown.marks] == [((0.0, 0.0), "saddle")]
    own = ds.escape(
        lambda p: p[..., 0] ** 2 - p[..., 1] ** 2, "momentum", point=[0.0, 0.0], steps=400, seeds=3, keep=3
    )
    assert np.abs(own.animate().scene.axes[1]).max() < 3  # within 1 of it, and a step beyond


def test_maps_and_players_have_one_scheme():
    page = ds.report(ds.paths("rosenbrock", {"gd": 0.001, "momentum": {"lr": 0.001}}, steps=30)).html
    map_, player = (
        json.loads(each) for each in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)
    )
    above = {each["name"]: each for each in map_["choices"][0]["data"] if each.get("name")}
    below = {each["name"]: each for each in player["choices"][0]["data"] if each.get("meta") == "heads"}
    for name, head in below.items():
        assert head["marker"]["color"] == above[name]["marker"]["color"] == above[name]["line"]["color"]
        assert head["marker"]["symbol"] == above[name]["marker"]["symbol"][-1]
    least = [each for each in player["choices"][0]["data"] if each.get("name") == "global minimum"]
    assert least[0]["marker"]["symbol"] == above["global minimum"]["marker"]["symbol"] == "star"


def test_a_page_of_paths_is_about_as_large_as_other_pages():
    found = ds.paths("rosenbrock", {"gd": 0.0003, "momentum": 0.001, "adam": 0.03}, steps=1000)
    assert len(ds.report(found).html) < 2_700_000
    assert "gd: lr" in ds.report(ds.paths("bowl", "gd", steps=5)).html  # as it is written


@pytest.mark.parametrize(
    ("paths", "options", "said"),
    [
        ({}, {}, "at least one path"),
        ({"a": np.zeros((3, 3))}, {}, "an animation shows 1 or 2"),
        ({"a": np.zeros((3, 2)), "b": np.zeros((3, 1))}, {}, r"\[1, 2\] coordinates"),
        ({"a": np.zeros(3)}, {}, r"shape \(3,\)"),
        ({"a": np.zeros((0, 2))}, {}, r"shape \(0, 1, 2\)"),
        ({"a": np.zeros((3, 2))}, {"span": [[0, 1]]}, "for each coordinate"),
        ({"a": np.full((3, 2), np.nan)}, {}, "no finite place"),
    ],
)
def test_paths_that_cannot_be_shown_are_told_in_one_line(paths, options, said):
    with pytest.raises(InputError, match=said):
        animate(paths, lambda p: p.square().sum(-1), **options)


def test_what_cannot_be_written_is_told_in_one_line(two, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"must be .html or .gif"):
        two.save(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="seconds=0"):
        two.gif(seconds=0)
    with pytest.raises(InputError, match="width=20"):
        two.gif(width=20)
    with pytest.raises(InputError, match="width=2001"):
        two.gif(width=2001)
    with pytest.raises(InputError, match="seconds=121"):
        two.gif(seconds=121)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        two.save(tmp_path / "file" / "a.gif", width=200)
    with pytest.raises(InputError, match="keep=20"):
        escaping(ds.escape("saddle", "gd", steps=2, seeds=2))
    monkeypatch.setattr(gif, "_there", lambda module: module != "PIL")
    with pytest.raises(InputError, match=r"needs Pillow, which is not installed; pip install"):
        two.gif()


def test_the_ways_of_optimizers_move_over_their_function():
    found = ds.paths("bowl", {"gd": 0.1, "adam": 0.3}, steps=12)
    moving = found.animate(frames=5)
    assert [each.label for each in moving.scene.movers] == [way.label for way in found.ways]
    assert moving.scene.steps == (0, 3, 6, 9, 12)
    page = ds.report(found).html
    assert page.count('class="player"') == 1
    assert len(set(re.findall(r'data-figure="([^"]+)"', page))) == page.count("data-figure=")
    assert 'class="player"' not in ds.report(ds.paths("bowl(dimension=3)", {"gd": 0.1}, steps=2)).html
    assert moving.scene.movers[1].places[-1, 0] == pytest.approx(found["adam"].at[-1])
    with pytest.raises(InputError, match="animate\\(paths, function\\)"):
        animate({"a": spiral(1)})


def test_tensors_are_paths_too():
    path = torch.zeros(4, 2, requires_grad=True)
    assert animate({"a": path}, functions.get("saddle")).scene.movers[0].places.shape == (4, 1, 2)
