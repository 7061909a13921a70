"""Parquet: the same data as the CSV of the same table; without pyarrow one line says what to install."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data import load_path

ROWS = [(i * 0.5, ["red", "blue"][i % 2], None if i == 4 else i % 3, i % 5 == 0) for i in range(30)]


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"t\.parquet: Parquet needs pyarrow.*pip install 'downslope\[tables\]'"
    ):
        load_path(path)


def written(path: Path) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    columns = dict(zip(("size", "colour", "count", "kind"), map(list, zip(*ROWS, strict=True)), strict=True))
    parquet.write_table(arrow.table(columns), path)
    return path


def test_it_is_read_as_the_same_table_in_csv(tmp_path: Path) -> None:
    found = load_path(written(tmp_path / "t.parquet"), "kind")
    lines = ["size,colour,count,kind", *(",".join("" if v is None else str(v) for v in row) for row in ROWS)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    same = load_path(tmp_path / "t.csv", "kind")
    assert found.features == same.features
    assert found.classes == same.classes == ["False", "True"]
    for one, other in zip(
        (*found.train, *(found.valid or ())), (*same.train, *(same.valid or ())), strict=True
    ):
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))
    assert "missing values are kept as NaN: 'count' 1" in found.told


def test_a_second_file_is_read_as_the_first(tmp_path: Path) -> None:
    first = written(tmp_path / "a.parquet")
    found = load_path(first, "kind", valid=written(tmp_path / "b.parquet"))
    assert found.valid is not None
    assert torch.equal(found.train[1].sort().values, found.valid[1].sort().values)


def test_what_is_no_parquet_or_nested_or_too_large_is_told(tmp_path: Path, monkeypatch) -> None:
    path = written(tmp_path / "t.parquet")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"a": [[1, 2], [3]], "y": [0, 1]}), tmp_path / "nested.parquet")
    with pytest.raises(DataError, match=r"column 'a' holds list<"):
        load_path(tmp_path / "nested.parquet")
    (tmp_path / "page.parquet").write_text("<html></html>")
    with pytest.raises(DataError, match=r"page\.parquet: not a readable Parquet file"):
        load_path(tmp_path / "page.parquet")
    monkeypatch.setattr(memory, "available", lambda: 1000.0)
    with pytest.raises(DataError, match=r"t\.parquet: would take"):
        load_path(path)


def test_columns_named_alike_are_told_and_two_targets_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    column = [i / 7 for i in range(30)]
    table = arrow.table([arrow.array(column)] * 3, names=["a", "a", "y"])
    parquet.write_table(table, tmp_path / "t.parquet")
    found = load_path(tmp_path / "t.parquet", "y")
    assert found.features == ["a", "a.2"]
    assert "2 columns named 'a': the second is called a.2" in found.told
    with pytest.raises(DataError, match="2 columns named 'a': the target must be one"):
        load_path(tmp_path / "t.parquet", "a")


def test_ids_and_numbers_with_signs_are_read_as_those_of_a_text_table(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    ids = [1001 + 7 * (i * 11 % 30) for i in range(30)]
    columns = {"user_id": ids, "share": [f"{i}%" for i in range(30)], "y": [i / 7 for i in range(30)]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    found = load_path(tmp_path / "t.parquet", valid=0.0)
    assert found.features == ["share"]
    assert sorted(found.train[0].flatten().tolist()) == [float(i) for i in range(30)]
