"""Validation examples with other columns than those of training: one line, whatever they are read from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError
from downslope.data import load_path

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 5)).astype(np.float32), RNG.integers(0, 2, 60)


@pytest.mark.parametrize("first", [("train_x", "train_y"), ("x", "y"), ("X_train", "y_train")])
def test_arrays_for_validation_with_other_columns_are_refused(first: tuple[str, str], tmp_path: Path) -> None:
    x, y = first
    np.savez(tmp_path / "a.npz", **{x: X, y: Y, "valid_x": X[:20, :4], "valid_y": Y[:20]})
    with pytest.raises(InputError, match=rf"a.npz: 'valid_x': .*\(4,\), those of '{x}' \(5,\)") as told:
        load_path(tmp_path / "a.npz")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("first", [("train_x", "train_y"), ("x", "y")])
def test_arrays_for_validation_are_used_whatever_those_of_training_are_called(
    first: tuple[str, str], tmp_path: Path
) -> None:
    x, y = first
    np.savez(tmp_path / "a.npz", **{x: X, y: Y, "valid_x": X[:20] + 1, "valid_y": Y[:20]})
    loaded = load_path(tmp_path / "a.npz")
    assert len(loaded.train[0]) == 60
    torch.testing.assert_close(loaded.valid[0], torch.from_numpy(X[:20] + 1))


def test_a_second_table_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(60)))
    (tmp_path / "v.csv").write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    with pytest.raises(InputError, match=r"v\.csv.*'b'") as told:
        ds.Problem(
            model="mlp", objective="cross_entropy", target="y",
            train=tmp_path / "t.csv", valid=tmp_path / "v.csv",
        )  # fmt: skip
    assert "\n" not in str(told.value)


def test_tensors_for_validation_with_other_columns_are_told_with_both_shapes() -> None:
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    problem = ds.Problem(model="mlp", objective="cross_entropy", train=(x, y), valid=(x[:20, :4], y[:20]))
    with pytest.raises(InputError, match=r"have shapes \[\(4,\), \(\)\], those of training \[\(5,\), \(\)\]"):
        ds.fit(problem, ds.Recipe(epochs=1), folder=False, progress=False)
