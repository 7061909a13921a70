"""Archives of arrays that are none, or hold what no model takes: each told in one line, nothing executed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from downslope.core.errors import DataError
from downslope.data import load_path

X = np.linspace(-1, 1, 60).reshape(30, 2)
Y = np.arange(30) / 7
LABELS = np.array(["a", "b", "c"] * 10)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": np.array([{}] * 30, dtype=object), "y": Y}, "refused, an array in it holds Python objects"),
        (
            {"X": X, "y": LABELS},
            r"'y' has dtype <U1.*return_inverse=True\)\[1\] numbers texts",
        ),
        ({"X": np.where(X < 0.9, X, 1e300), "y": Y}, r"t\.npz: 'X', row 28 .*: 1e\+300 overflows float32"),
        ({"X": X, "y": np.where(Y < 4, Y, -1e200)}, r"'y', row 28 .*: -1e\+200 overflows float32"),
        ({}, "it holds nothing"),
    ],
)
def test_arrays_that_no_model_takes_are_told(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "t.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said) as told:
        load_path(tmp_path / "t.npz")
    assert "\n" not in str(told.value)


def test_texts_that_are_numbered_as_the_message_says_are_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", X=X, y=np.unique(LABELS, return_inverse=True)[1])
    assert load_path(tmp_path / "t.npz").classes == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"hello", "no archive of numpy.savez"), (b"", "it is empty"), (None, "or was cut short")],
)
def test_what_is_no_archive_is_told_without_advice_to_trust_it(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, X=X, y=Y)
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(DataError, match=said) as told:
        load_path(path)
    assert "pickle" not in str(told.value)


def test_one_array_with_the_ending_of_an_archive_is_told(tmp_path: Path) -> None:
    with (tmp_path / "t.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match=r"t\.npz holds one array; save both with numpy\.savez"):
        load_path(tmp_path / "t.npz")


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "uint8", "bool"])
def test_one_hot_targets_of_any_type_are_classes_and_told(tmp_path: Path, kind: str) -> None:
    classes = np.arange(30) % 3
    np.savez(tmp_path / "t.npz", X=X, y=np.eye(3, dtype=kind)[classes])
    found = load_path(tmp_path / "t.npz", valid=0.0)
    assert (found.task, found.classes) == ("classification", ["0", "1", "2"])
    rows = {round(float(x[0]), 4): int(y) for x, y in zip(*found.train, strict=True)}
    assert rows == {round(float(x[0]), 4): int(y) for x, y in zip(X, classes, strict=True)}
    assert "'y' has a 1 in one of 3 columns: the class of an example" in found.told
