"""IDX files written byte by byte as the format's page says; what is wrong with one is told."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.data import load_path
from downslope.data.idx_file import read_idx


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def written(folder: Path, part: str = "train", n: int = 30, *, gz: bool = True, size: int = 4) -> Path:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (n, size, size), dtype=np.uint8)
    labels = (np.arange(n) % 3).astype(np.uint8)
    end = ".gz" if gz else ""
    pack = gzip.compress if gz else bytes
    images = folder / f"{part}-images-idx3-ubyte{end}"
    images.write_bytes(pack(idx(pixels)))
    (folder / f"{part}-labels-idx1-ubyte{end}").write_bytes(pack(idx(labels)))
    return images


@pytest.mark.parametrize("gz", [True, False])
def test_a_pair_is_found_by_name_from_either_half_and_from_the_folder(tmp_path: Path, gz: bool) -> None:
    images = written(tmp_path, gz=gz)
    pixels, labels = read_idx(images), read_idx(Path(str(images).replace("images-idx3", "labels-idx1")))
    for given in (images, tmp_path, Path(str(images).replace("images-idx3", "labels-idx1"))):
        loaded = load_path(given, valid=0.0)
        order = torch.from_numpy(loaded.origins[0].at)
        assert torch.equal(loaded.train[0], torch.from_numpy(pixels / np.float32(255))[order][:, None])
        assert torch.equal(loaded.train[1], torch.from_numpy(labels.astype(np.int64))[order])
        assert loaded.classes == ["0", "1", "2"]


def test_the_test_pair_of_a_folder_is_the_validation_part(tmp_path: Path) -> None:
    images = written(tmp_path)
    written(tmp_path, "t10k", 9)
    loaded = load_path(images)
    assert loaded.valid is not None
    assert (len(loaded.train[1]), len(loaded.valid[1])) == (30, 9)
    assert any("t10k" in line for line in loaded.told)
    problem = Problem(model="cnn", objective="cross_entropy", train=str(images))
    assert problem.valid_source is not None
    assert problem.valid_source.size == 9


def test_without_a_test_pair_a_stratified_share_is_held_out(tmp_path: Path) -> None:
    loaded = load_path(written(tmp_path), valid=0.2)
    assert loaded.valid is not None
    assert np.bincount(loaded.valid[1].numpy()).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("code", "kind"), [(0x08, "u1"), (0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_every_type_of_the_format_is_read(tmp_path: Path, code: int, kind: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    path = tmp_path / "a-images-idx3-ubyte"
    path.write_bytes(idx(array, code))
    np.testing.assert_array_equal(read_idx(path), array)


def test_a_cut_gzip_stream_is_told(tmp_path: Path) -> None:
    images = written(tmp_path)
    images.write_bytes(images.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: its gzip stream is broken"):
        load_path(images)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: b"\x89PNG" + raw[4:], "begins with 89 50 4e 47"),
        (lambda raw: raw[:2] + b"\x07" + raw[3:], "begins with 00 00 07 03"),
        (lambda raw: raw[:-5], r"holds 475 of the 480 bytes that its header tells \(shape \(30, 4, 4\)\)"),
        (lambda raw: raw + b"x", "holds more than the 480 bytes"),
        (lambda raw: raw[:10], "bytes that its header tells"),
        (lambda raw: b"", "begins with nothing"),
    ],
)
def test_a_wrong_magic_or_length_is_told(tmp_path: Path, change, said: str) -> None:
    images = written(tmp_path, gz=False)
    images.write_bytes(change(images.read_bytes()))
    with pytest.raises(DataError, match=said):
        load_path(images)


def test_sizes_that_disagree_are_told(tmp_path: Path) -> None:
    images = written(tmp_path, gz=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(29, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"holds 30 images and train-labels-idx1-ubyte 29 labels"):
        load_path(images)
    labels.unlink()
    with pytest.raises(DataError, match=r"no train-labels beside the other half of the pair"):
        load_path(images)


def test_a_test_part_of_other_sizes_or_classes_is_told(tmp_path: Path) -> None:
    images = written(tmp_path)
    written(tmp_path, "t10k", 9, size=5)
    with pytest.raises(DataError, match=r"images of shape \(1, 5, 5\)"):
        load_path(images)


def test_images_beyond_the_memory_are_told_before_they_are_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000.0)
    with pytest.raises(DataError, match=r"would take 0 MiB of memory and 0 MiB are free"):
        load_path(written(tmp_path))


def test_a_target_does_not_go_with_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"an IDX file has no columns; leave the target 'y' out"):
        load_path(written(tmp_path), "y")


def test_a_pair_with_exchanged_names_is_told_so(tmp_path: Path) -> None:
    for name, shape in (("images-idx3", (4,)), ("labels-idx1", (4, 2, 2))):
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (tmp_path / f"train-{name}-ubyte").write_bytes(head + bytes(math.prod(shape)))
    with pytest.raises(DataError, match="are the names of the two files exchanged"):
        load_path(tmp_path)
