"""Where a value is that is not finite: found again in the file itself, or in the arrays that were given."""

from __future__ import annotations

import csv
import io
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.batches import default_split
from downslope.core.sources import Memory, read_path
from downslope.data.gaps import gaps


def places(source: Memory, part: str = "train") -> list[str]:
    return [gap.said for gap in gaps(source, default_split, part)]


def text_with_gaps(rows: int, draw: random.Random) -> str:
    """A table with quoted line breaks, blank lines, text columns, and values that are missing or infinite."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "colour", "acid", "note", "alcohol", "quality"])
    for i in range(rows):
        acid = draw.choice(["", "inf", "?"]) if draw.random() < 0.03 else f"{i * 0.25}"
        alcohol = draw.choice(["NA", "-inf"]) if draw.random() < 0.03 else f"{10 + i % 7}.5"
        note = f"bottle\n{i % 3}, cellar" if i % 2 else f"bottle {i % 3}"
        writer.writerow([i, draw.choice(["red", "white", ""]), acid, note, alcohol, i % 5 + 3])
        if draw.random() < 0.1:
            out.write("\n")
    return out.getvalue()


@pytest.mark.parametrize("seed", range(8))
def test_the_line_and_column_of_a_file_hold_what_is_said_to_stand_there(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "wine.csv"
    path.write_text(text_with_gaps(200, random.Random(seed)), encoding="utf-8")
    lines = path.read_text(encoding="utf-8").split("\n")
    loaded = read_path(path, "quality")
    told = [*places(loaded.train), *places(loaded.valid)]
    assert told
    for each in told:
        found = re.match(r"wine\.csv line (\d+), column '(\w+)': (\S+)", each)
        assert found is not None, each
        cells = next(csv.reader(lines[int(found[1]) - 1 : int(found[1]) + 1]))  # a quoted row takes two lines
        cell = cells[["id", "colour", "acid", "note", "alcohol", "quality"].index(found[2])]
        assert cell in {"nan": ["", "?", "NA"], "inf": ["inf"], "-inf": ["-inf"]}[found[3]]


def test_every_gap_of_a_file_is_at_the_line_where_it_was_written(tmp_path: Path) -> None:
    for bad in (2, 57, 99):
        rows = [f"{i},{i % 3},{'nan' if i == bad else i / 7},{i * i}" for i in range(100)]
        (tmp_path / "one.csv").write_text("a,b,c,y\n" + "\n".join(rows), encoding="utf-8")
        loaded = read_path(tmp_path / "one.csv", "y")
        told = [*places(loaded.train), *places(loaded.valid)]
        assert told == [f"one.csv line {bad + 2}, column 'c': nan"]


def written(tmp_path: Path, bad: dict[int, str], rows: int = 200) -> Path:
    """A table of `rows` lines below its header; the values of `bad` stand in column b of these lines."""
    lines = [f"{i % 7},{bad.get(i + 2, i / 7)},{i % 2}" for i in range(rows)]
    (tmp_path / "one.csv").write_text("a,b,y\n" + "\n".join(lines), encoding="utf-8")
    return tmp_path / "one.csv"


@pytest.mark.parametrize("lines", [(12, 52, 122), (2, 3, 4, 5), tuple(range(20, 200, 9))])
def test_several_gaps_of_a_file_are_told_in_the_order_of_its_lines(tmp_path: Path, lines: tuple[int]) -> None:
    loaded = read_path(written(tmp_path, dict.fromkeys(lines, "inf")), "y", 0.0)
    (gap,) = gaps(loaded.train, default_split, "train")
    assert [place.at for place in gap.places] == sorted(lines)[:5]
    assert gap.said == (
        f"one.csv line {min(lines)}, column 'b': inf "
        f"(the first of {len(lines)} values that are not finite in the train part)"
    )


def test_both_parts_of_one_file_are_told_together_in_the_order_of_its_lines(tmp_path: Path) -> None:
    bad = {12: "inf", 32: "nan", 52: "-inf", 122: "inf"}
    problem = ds.Problem(model="mlp", objective="cross_entropy", arguments={"outputs": 2}, target="y",
                         train=written(tmp_path, bad))  # fmt: skip
    found = ds.diagnose(problem, ds.Recipe(epochs=1), progress=False, folder=False).findings[0]
    assert found.symptom == "non-finite-data"
    assert re.findall(r"line (\d+), column 'b': ([a-z-]+)", found.message) == [
        (str(line), value) for line, value in bad.items()
    ]
    assert found.evidence.value == 4


def test_a_target_of_a_file_has_its_column_named(tmp_path: Path) -> None:
    rows = [f"{'inf' if i == 4 else i / 7},{i}" for i in range(30)]
    (tmp_path / "one.csv").write_text("price,x\n" + "\n".join(rows), encoding="utf-8")
    loaded = read_path(tmp_path / "one.csv", "price")
    assert [*places(loaded.train), *places(loaded.valid)] == ["one.csv line 6, column 'price': inf"]


def test_rows_of_an_archive_are_those_of_the_array(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 4))
    x[31, 2] = np.nan
    np.savez(tmp_path / "set.npz", X=x, y=np.arange(50.0))
    loaded = read_path(tmp_path / "set.npz")
    told = [*places(loaded.train), *places(loaded.valid)]
    assert told == ["set.npz row 31 of 'X', column 2 (counted from 0): nan"]


def test_an_archive_with_its_own_parts_names_the_part_and_its_row(tmp_path: Path) -> None:
    x = np.ones((6, 4))
    held = x.copy()
    held[5, 3] = -np.inf
    np.savez(tmp_path / "set.npz", train_x=x, train_y=np.arange(6.0), valid_x=held, valid_y=np.arange(6.0))
    loaded = read_path(tmp_path / "set.npz")
    assert places(loaded.train) == []
    assert places(loaded.valid) == ["set.npz row 5 of 'valid_x', column 3 (counted from 0): -inf"]


def test_arrays_are_named_by_part_row_and_column() -> None:
    x, y = torch.zeros(9, 3), torch.zeros(9)
    x[4, 1] = torch.nan
    y[7] = torch.inf
    assert places(Memory((x, y)), "valid") == [
        "valid inputs, row 4, column 1 (counted from 0): nan",
        "valid target, row 7 (counted from 0): inf",
    ]


def test_images_are_named_by_their_index_and_several_values_are_counted() -> None:
    x = torch.zeros(5, 2, 3, 3)
    x[3, 1, 0, 2] = torch.nan
    x[4] = torch.nan
    (said,) = places(Memory((x, torch.zeros(5))))
    assert said == (
        "train inputs, row 3, at [1, 0, 2] (counted from 0): nan (the first of 19 values that are not finite)"
    )


def test_of_several_inputs_the_one_is_named() -> None:
    mask = torch.zeros(5, 2)
    mask[2, 0] = torch.nan
    batch = {"tokens": torch.zeros(5, 2), "mask": mask, "labels": torch.zeros(5)}
    assert places(Memory(batch)) == ["train input mask, row 2, column 0 (counted from 0): nan"]
    assert places(Memory((torch.zeros(5, 2), mask, torch.zeros(5)))) == [
        "train input 1, row 2, column 0 (counted from 0): nan"
    ]


def test_whole_data_has_no_gaps() -> None:
    assert places(Memory((torch.zeros(5, 2), torch.arange(5)))) == []


def test_a_text_among_numbers_is_named_by_what_its_cell_holds(tmp_path: Path) -> None:
    for valid in (0.0, 0.9):
        rows = [f"{'hello' if i == 50 else i / 7},{i % 3},{i * i}" for i in range(100)]
        (tmp_path / "mixed.csv").write_text("a,b,y\n" + "\n".join(rows), encoding="utf-8")
        loaded = read_path(tmp_path / "mixed.csv", "y", valid)
        told = [*places(loaded.train), *(places(loaded.valid) if valid else [])]
        assert told == ["mixed.csv line 52, column 'a': 'hello' is no number"]
