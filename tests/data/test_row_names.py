"""Columns that name their rows are left out and told; measures that look like counters stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from downslope.data import load_path
from downslope.data.row_names import why_row_name

SHUFFLED = np.random.default_rng(0).permutation(np.arange(10_000, 10_300)).astype(float)
ROWS = np.arange(300.0)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", ROWS),
        ("id", ROWS + 1001),
        ("ID", SHUFFLED),
        ("user_id", SHUFFLED * 977 + 3),
        ("PassengerId", ROWS + 1),
        ("customerid", SHUFFLED),
        ("id_cliente", SHUFFLED),
        ("Id.1", SHUFFLED),
        ("id", np.where(ROWS < 25, SHUFFLED[0], SHUFFLED)),  # Wisconsin's patients, some of whom came twice
        ("id", np.where(ROWS == 4, np.nan, SHUFFLED)),
        ("tweet_id", 1.2e18 + ROWS),
        ("index", ROWS + 1001),
        ("Unnamed: 0", np.random.default_rng(1).permutation(3000)[:300].astype(float)),
        ("__index_level_0__", np.random.default_rng(1).permutation(3000)[:300].astype(float)),
        ("column1", np.random.default_rng(1).permutation(300).astype(float)),
        ("row", ROWS),
        ("No.", ROWS + 1),
    ],
)
def test_names_of_rows_are_seen(name: str, values: np.ndarray) -> None:
    assert why_row_name(name, values) is not None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("year", ROWS[:70] + 1950),
        ("", ROWS[:70] + 1950),
        ("index", ROWS[:70] + 1950),
        ("time", 1.7e9 + 3600 * ROWS),
        ("t", ROWS),
        ("price", SHUFFLED),
        ("humidity", SHUFFLED),
        ("acid", SHUFFLED),
        ("width", SHUFFLED),
        ("grid", SHUFFLED),
        ("paid", SHUFFLED),
        ("idle", SHUFFLED),
        ("user_id", ROWS // 10),  # a group, as customers among orders
        ("id", ROWS + 0.5),
        ("id", np.array([1.0, 2.0])),
        ("index", SHUFFLED),
        ("index", ROWS / 7),
        ("id", np.full(300, np.nan)),
        ("id", np.where(ROWS == 3, np.inf, SHUFFLED)),
    ],
)
def test_measures_stay(name: str, values: np.ndarray) -> None:
    assert why_row_name(name, values) is None


def test_the_first_column_of_a_file_without_a_header_counts_from_0_or_1_alone() -> None:
    assert why_row_name("column1", ROWS + 1, headed=False) is not None
    assert why_row_name("column1", ROWS + 1001, headed=False) is None
    assert why_row_name("column1", np.random.default_rng(1).permutation(300) * 1.0, headed=False) is None


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", ["id", "user_id"])
def test_ids_of_a_file_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr("downslope.data.csv_large.LARGE", 0)
    path = tmp_path / "t.csv"
    ids = 123_456_789_000 + SHUFFLED  # float32 would hold them all alike
    path.write_text(f"{name},x,y\n" + "".join(f"{int(ids[i])},{i % 7},{i / 3}\n" for i in range(300)))
    loaded = load_path(path, valid=0.0)
    assert loaded.features == ["x"]
    assert f"column '{name}' names its rows by 300 different numbers and is left out" in loaded.told


def test_uuids_are_left_out_and_told(tmp_path: Path) -> None:
    import uuid

    path = tmp_path / "t.csv"
    path.write_text("key,x,y\n" + "".join(f"{uuid.UUID(int=i * 7**40)},{i % 7},{i / 3}\n" for i in range(40)))
    loaded = load_path(path, valid=0.0)
    assert loaded.features == ["x"]
    assert any("'key' is text with 40 different values and is left out" in line for line in loaded.told)
