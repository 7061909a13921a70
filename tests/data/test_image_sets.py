"""MNIST, Fashion-MNIST and CIFAR-10: small files in their forms, and the real ones where they are there."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.errors import DataError
from downslope.data import cifar10, fashion_mnist, mnist
from tests.data.test_idx_file import idx

DRAW = np.random.default_rng(1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOWNSLOPE_DATA", str(tmp_path))
    return tmp_path


def small(folder: Path, name: str = "mnist") -> dict[str, np.ndarray]:
    (folder / name).mkdir()
    held: dict[str, np.ndarray] = {}
    for part, n in (("train", 50), ("t10k", 20)):
        held[part] = DRAW.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        for what, array in (("images-idx3", held[part]), ("labels-idx1", labels)):
            (folder / name / f"{part}-{what}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    return held


def test_the_test_part_is_what_is_held_out(folder: Path) -> None:
    held = small(folder)
    table = mnist(scale=1.0)
    assert table.valid is not None
    np.testing.assert_array_equal(table.train[0].numpy(), held["train"][:, None].astype(np.float32))
    np.testing.assert_array_equal(table.valid[0].numpy(), held["t10k"][:, None].astype(np.float32))
    assert table.valid[1].tolist() == [*range(10), *range(10)]
    assert mnist().train[0].max() == held["train"].max() / 255


def test_a_share_is_held_out_of_the_training_part_by_class(folder: Path) -> None:
    small(folder)
    table = mnist(valid=0.2, images=False)
    assert table.valid is not None
    assert (table.train[0].shape, table.valid[0].shape) == ((40, 784), (10, 784))
    assert sorted(table.valid[1].tolist()) == list(range(10))
    assert len(table.features) == 784


def test_standardising_uses_the_training_part_alone(folder: Path) -> None:
    held = small(folder, "fashion_mnist")
    table = fashion_mnist(standardise=True)
    train = held["train"] / 255
    assert table.valid is not None
    wanted = (held["t10k"] / 255 - train.mean()) / train.std()
    np.testing.assert_allclose(table.valid[0][:, 0].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_outside_its_domain_is_refused(scale: float) -> None:
    with pytest.raises(DataError, match="must be positive"):
        fashion_mnist(scale=scale)


def archive(path: Path, leave_out: str = "", cut: int = 0) -> np.ndarray:
    records = DRAW.integers(0, 256, (60, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    with tarfile.open(path, "w:gz") as tar:
        names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
        for i, name in enumerate(names):
            raw = records[10 * i : 10 * i + 10].tobytes()[: 30730 - cut]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            if name != leave_out:
                tar.addfile(member, io.BytesIO(raw))
    return records


def test_cifar_is_read_from_its_archive_colour_by_colour(folder: Path) -> None:
    (folder / "cifar10").mkdir()
    records = archive(folder / "cifar10" / "cifar-10-binary.tar.gz")
    table = cifar10(scale=1.0)
    assert table.valid is not None
    red = records[:50, 1:1025].reshape(50, 32, 32)
    np.testing.assert_array_equal(table.train[0][:, 0].numpy(), red)
    assert table.train[1].tolist() == records[:50, 0].tolist()
    assert table.valid[1].tolist() == records[50:, 0].tolist()
    assert cifar10(standardise=True).train[0].mean((0, 2, 3)).abs().max() < 1e-5


def test_a_broken_archive_is_told(folder: Path) -> None:
    (folder / "cifar10").mkdir()
    path = folder / "cifar10" / "cifar-10-binary.tar.gz"
    archive(path, leave_out="data_batch_3.bin")
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing in it, or cut"):
        cifar10()
    archive(path, cut=7)
    with pytest.raises(DataError, match=r"data_batch_1\.bin is missing in it, or cut"):
        cifar10()
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"not a readable archive"):
        cifar10()


GIVEN = os.environ.get("DOWNSLOPE_DATA", "")


@pytest.mark.skipif(not GIVEN, reason="DOWNSLOPE_DATA names no folder with the real sets")
def test_the_real_fashion_mnist_has_its_known_mean_and_deviation() -> None:
    table = fashion_mnist()
    assert table.valid is not None
    assert (len(table.train[1]), len(table.valid[1])) == (60_000, 10_000)
    pixels = table.train[0].double()
    assert float(pixels.mean()) == pytest.approx(0.2860, abs=1e-4)
    assert float(pixels.std()) == pytest.approx(0.3530, abs=1e-4)
    assert torch.bincount(table.train[1]).tolist() == [6000] * 10
