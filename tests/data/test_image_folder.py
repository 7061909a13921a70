"""Folders of images: classes by name, sizes told, and what cannot be decoded left out by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import read_path
from downslope.data import Loaded, Streamed, image_folder, images, load_path
from downslope.training.fit import fit

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(path: Path, colour: object = 0, size: tuple[int, int] = (6, 5), mode: str = "L") -> None:
    """One image; `size` is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size[::-1], colour).save(path)


def folder(root: Path, count: int = 10, size: tuple[int, int] = (6, 5)) -> Path:
    for i in range(count):
        picture(root / "cats" / f"{i}.png", 10 + i, size)
        picture(root / "dogs" / f"{i}.png", 100 + i, size)
    return root


def held(root: Path, **options: object) -> Loaded:
    found = images(root, **options)  # type: ignore[arg-type]
    assert isinstance(found, Loaded)
    return found


def test_classes_are_the_folders_and_pixels_are_what_the_files_hold(tmp_path: Path) -> None:
    found = held(folder(tmp_path), valid=0.0)
    assert found.classes == ["cats", "dogs"]
    assert found.train[0].shape == (20, 1, 6, 5)
    shades = {(int(y), round(float(x[0, 0, 0] * 255))) for x, y in zip(*found.train, strict=True)}
    assert shades == {(0, 10 + i) for i in range(10)} | {(1, 100 + i) for i in range(10)}


@pytest.mark.parametrize("name", ["valid", "val", "test"])
def test_a_folder_for_validation_is_used_as_such(tmp_path: Path, name: str) -> None:
    folder(tmp_path / "train")
    folder(tmp_path / name, 3)
    found = load_path(tmp_path)
    assert isinstance(found, Loaded)
    assert found.valid is not None
    assert (len(found.train[1]), len(found.valid[1])) == (20, 6)


def test_without_one_a_stratified_share_is_held_out(tmp_path: Path) -> None:
    found = held(folder(tmp_path), valid=0.2)
    assert found.valid is not None
    assert torch.bincount(found.valid[1]).tolist() == [2, 2]
    assert torch.equal(found.train[0], held(tmp_path, valid=0.2).train[0])
    assert not torch.equal(found.train[0], held(tmp_path, valid=0.2, seed=1).train[0])


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg", "JPEG"])
def test_colours_are_kept_in_every_format(tmp_path: Path, ending: str) -> None:
    for name, colour in (("a", (255, 0, 0)), ("b", (0, 0, 255))):
        for i in range(4):
            picture(tmp_path / name / f"{i}.{ending}", colour, (16, 16), "RGB")
    found = held(tmp_path, valid=0.0)
    assert found.train[0].shape == (8, 3, 16, 16)
    for x, y in zip(*found.train, strict=True):
        wanted = torch.tensor([1.0, 0.0, 0.0] if y == 0 else [0.0, 0.0, 1.0])
        assert torch.allclose(x.mean((1, 2)), wanted, atol=0.02)


def test_one_image_with_a_colour_makes_all_colour_images(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    picture(tmp_path / "cats" / "red.png", (255, 0, 0), (6, 5), "RGB")
    assert held(tmp_path, valid=0.0).train[0].shape == (7, 3, 6, 5)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    for name, value in (("a", 128), ("b", 32768)):
        (tmp_path / name).mkdir()
        array = np.full((4, 4), value, dtype=np.uint16)
        array[0, 0] = 65535
        Image.fromarray(array).save(tmp_path / name / "x.png")
    found = held(tmp_path, valid=0.0)
    shades = {int(y): round(float(x[0, 3, 3] * 255)) for x, y in zip(*found.train, strict=True)}
    assert shades == {0: 0, 1: 128}


def test_different_sizes_are_scaled_and_cut_and_that_is_told(tmp_path: Path) -> None:
    folder(tmp_path, 3, (40, 20))
    folder(tmp_path / "more", 1)
    for i in range(3):
        picture(tmp_path / "dogs" / f"wide{i}.png", 100, (12, 50))
    (tmp_path / "more").rename(tmp_path / ".hidden")
    found = held(tmp_path, valid=0.0)
    assert found.train[0].shape[2:] == (16, 16)  # the median of the shorter sides 12 and 20
    assert any("sizes differ, from 12 by 50 to 40 by 20" in line for line in found.told)
    assert held(tmp_path, valid=0.0, size=(8, 10)).train[0].shape[2:] == (8, 10)


def test_the_middle_is_what_is_cut_out(tmp_path: Path) -> None:
    array = np.zeros((10, 30), dtype=np.uint8)
    array[:, 10:20] = 200
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(array).save(tmp_path / name / "x.png")
    assert (held(tmp_path, valid=0.0, size=10).train[0] * 255).round().unique().tolist() == [200.0]


def test_a_photograph_stored_on_its_side_is_turned(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = Image.new("L", (8, 4), 50)
        exif = made.getexif()
        exif[0x0112] = 6
        made.save(tmp_path / name / "x.jpg", exif=exif)
    assert held(tmp_path, valid=0.0).train[0].shape[2:] == (8, 4)


def test_broken_files_are_left_out_told_by_name_and_counted(tmp_path: Path) -> None:
    folder(tmp_path, 5, (64, 64))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cats" / "cut.jpg")
    whole = (tmp_path / "cats" / "cut.jpg").read_bytes()
    (tmp_path / "cats" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cats" / "empty.png").write_bytes(b"")
    (tmp_path / "dogs" / "page.png").write_text("<html>404</html>")
    (tmp_path / "dogs" / "notes.txt").write_text("mine")
    found = held(tmp_path, valid=0.0)
    assert len(found.train[1]) == 10
    said = next(line for line in found.told if "cannot be decoded" in line)
    assert said.startswith("3 of 13 files cannot be decoded and are left out: cats/cut.jpg (")
    assert "cats/empty.png (no image that Pillow knows)" in said
    assert "dogs/page.png (no image that Pillow knows)" in said
    assert "1 file is no image and left out, such as 'notes.txt'" in found.told


def test_a_class_of_broken_files_only_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, 2)
    for i in range(2):
        (tmp_path / "dogs" / f"{i}.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"no image of class 'dogs' can be decoded"):
        images(tmp_path)


def test_one_class_an_empty_folder_and_no_folder_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "cats" / "0.png")
    with pytest.raises(DataError, match=r"one class only, 'cats'"):
        images(tmp_path / "one")
    (tmp_path / "none" / "cats").mkdir(parents=True)
    with pytest.raises(DataError, match="no images in its sub-folders"):
        images(tmp_path / "none")
    with pytest.raises(DataError, match="a folder without IDX files, and without sub-folders of images"):
        load_path(tmp_path / "none")
    with pytest.raises(DataError, match="no such folder"):
        images(tmp_path / "nowhere")


def test_a_held_out_class_that_is_not_trained_on_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "train", 2)
    picture(tmp_path / "val" / "birds" / "0.png")
    with pytest.raises(DataError, match=r"class 'birds' is held out and does not occur in training"):
        images(tmp_path)


def test_without_pillow_one_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"images need Pillow.*pip install 'downslope\[images\]'"):
        images(folder(tmp_path, 2))


def test_images_beyond_the_memory_are_read_anew_to_the_same_numbers(tmp_path: Path, monkeypatch) -> None:
    inside = held(folder(tmp_path))
    monkeypatch.setattr(image_folder, "MEMORY_LIMIT", 1000)
    streamed = images(tmp_path)
    assert isinstance(streamed, Streamed)
    assert streamed.valid is not None
    for source, pair in ((streamed.train, inside.train), (streamed.valid, inside.valid or ())):
        x, y = (torch.cat(parts) for parts in zip(*source.stored(4), strict=True))
        assert torch.equal(x, pair[0])
        assert torch.equal(y, pair[1])
    assert any("are read anew in every epoch" in line for line in streamed.told)
    problem = Problem(model="cnn", objective="cross_entropy", train=streamed.train, valid=streamed.valid,
                      metric="accuracy", arguments={"width": 4, "depth": 1})  # fmt: skip
    run = fit(problem, Recipe(lr=0.03, epochs=10, batch_size=4), folder=False, progress=False)
    assert run.summary["valid_metric"] == 1.0


def test_the_memory_that_is_free_decides_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000.0)
    assert isinstance(images(folder(tmp_path)), Streamed)


def test_a_problem_takes_the_path_of_a_folder(tmp_path: Path) -> None:
    found = read_path(folder(tmp_path))
    assert found.train.reading["kind"] == "images"
    problem = Problem(model="mlp", objective="cross_entropy", train=str(tmp_path))
    assert problem.valid_source is not None
    assert problem.valid_source.size == 4


def test_a_class_folder_without_images_is_told(tmp_path: Path) -> None:
    folder(tmp_path / "train")
    (tmp_path / "train" / "birds").mkdir()
    (tmp_path / "valid" / "cats").mkdir(parents=True)
    found = held(tmp_path)
    assert found.classes == ["cats", "dogs"]
    assert "no images below train/ in 'birds': no class of it" in found.told
    assert "no images below valid/ in 'cats': no class of it" in found.told


def test_of_animated_files_the_first_picture_is_taken_and_told(tmp_path: Path) -> None:
    folder(tmp_path, 4)
    more = [Image.new("L", (5, 6), shade) for shade in (200, 250)]
    Image.new("L", (5, 6), 50).save(tmp_path / "cats" / "move.gif", save_all=True, append_images=more)
    found = held(tmp_path, valid=0.0)
    assert "1 file is animated or paged, and the first picture taken, such as in 'move.gif'" in found.told
    shades = {round(float(x[0, 0, 0] * 255)) for x in found.train[0]}
    assert 50 in shades
    assert not shades & {200, 250}
