"""A table read in pieces gives what the same table gives as a whole, whatever stands in it and wherever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data import Loaded, csv_large, load_path
from downslope.data.row_names import may_name_rows

BODY = [f"{i},{i * 0.25},{'red' if i % 3 else 'blue'},{i % 2}" for i in range(20)]
HEAD = "count,b,colour,y"


def table(*, header: str = HEAD, **changes: str) -> str:
    rows = list(BODY)
    for row, text in changes.items():
        rows[int(row[1:])] = text
    return "\n".join([header, *rows]) + "\n"


TABLES = {
    "numbers and categories": table(),
    "no header": "\n".join(BODY) + "\n",
    "a gap late in a column of numbers": table(r17="17,,red,1"),
    "a word late in a column of numbers": table(r18="18,high,red,0"),
    "many words late in a column of numbers": table(
        **{f"r{i}": f"{i},w{i % 2},red,0" for i in range(14, 20)}
    ),
    "text in the target late": table(**{f"r{i}": f"{i},1.5,red,{'ab'[i % 2]}" for i in range(12, 20)}),
    "rows without a target": table(r3="3,1,red,", r16="16,2,blue,NA"),
    "semicolons and decimal commas": table().replace(".", "#").replace(",", ";").replace("#", ","),
    "thousands": table(r2='"1,002",2,red,0', r19='"12,019",2,red,1'),
    "blank lines and a cell over two lines": table(r5='5,1,"re\nd",1').replace("\n9,", "\n\n\n9,"),
    "every line ends with the delimiter": table().replace("\n", ",\n"),
    "cells with blanks around": table().replace(",", " , "),
    "an empty column": table(header="count,b,colour,none,y")
    .replace(",0\n", ",,0\n")
    .replace(",1\n", ",,1\n"),
    "a counter": table(header="id,b,colour,y"),
    "a constant": table(**{f"r{i}": f"{i},7,red,{i % 2}" for i in range(20)}),
    "underscores are no numbers": table(**{f"r{i}": f"{i},1_00{i % 2},red,{i % 2}" for i in range(20)}),
    "a column of nan": table(**{f"r{i}": f"{i},nan,red,{i % 2}" for i in range(20)}),
    "not UTF-8": table(r4="4,1,grün,0", r5="5,1,grün,0"),
}


def read(path: Path, **options: object) -> Loaded:
    found = load_path(path, **options)  # type: ignore[arg-type]
    assert isinstance(found, Loaded)
    return found


def in_pieces(monkeypatch: pytest.MonkeyPatch, rows: int = 3) -> None:
    monkeypatch.setattr(csv_large, "LARGE", 0)
    monkeypatch.setattr(csv_large, "PIECE", rows)


@pytest.mark.parametrize("name", TABLES)
def test_pieces_give_what_the_whole_gives(tmp_path: Path, monkeypatch, name: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TABLES[name].encode("latin-1" if name == "not UTF-8" else "utf-8"))
    whole = read(path)
    in_pieces(monkeypatch)
    parts = read(path)
    assert parts.features == whole.features
    assert parts.classes == whole.classes
    assert parts.task == whole.task
    assert parts.reading == whole.reading
    for one, other in zip(
        (*parts.train, *(parts.valid or ())), (*whole.train, *(whole.valid or ())), strict=True
    ):
        assert torch.equal(one.nan_to_num(-9), other.nan_to_num(-9))
    assert parts.origins[0].at.tolist() == whole.origins[0].at.tolist()
    assert set(parts.told) == set(whole.told) or name == "every line ends with the delimiter"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (table(r15="15,1,red"), r"line 17: 3 cells where the first row has 4"),
        (table(r15='15,"1,red,0'), r"a quote that opens there may not close"),
        (table(r15="15,1e39,red,0"), r"line 17, column 'b': 1e39 overflows float32"),
    ],
)
def test_what_is_wrong_late_in_a_file_is_told_by_line(
    tmp_path: Path, monkeypatch, text: str, said: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    in_pieces(monkeypatch)
    with pytest.raises(DataError, match=said):
        load_path(path)


def test_a_second_large_file_is_coded_as_the_first(tmp_path: Path, monkeypatch) -> None:
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(table(), encoding="utf-8")
    other.write_text("y,colour,b,count\n" + "1,red,0.5,3\n0,blue,1e3,4\n" * 5, encoding="utf-8")
    whole = read(path, valid=other)
    in_pieces(monkeypatch)
    assert torch.equal((read(path, valid=other).valid or ())[0], (whole.valid or ())[0])


def test_what_memory_would_not_hold_is_told_after_the_first_piece(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "t.csv"
    rows = "".join(f"{i},{i * 0.5},{i % 2}\n" for i in range(20_000))
    path.write_text("a,b,y\n" + rows, encoding="utf-8")
    in_pieces(monkeypatch, 1000)
    taken: list[int] = []
    pieces = csv_large._Large.pieces
    monkeypatch.setattr(csv_large._Large, "pieces", lambda self: (taken.append(1) or p for p in pieces(self)))
    needed = 20_000 * 3 * 16
    monkeypatch.setattr(memory, "available", lambda: 0.9 * needed)
    with pytest.raises(DataError, match=r"t\.csv: would take 1 MiB of memory"):
        load_path(path)
    assert len(taken) == 1
    monkeypatch.setattr(memory, "available", lambda: 2.5 * needed)
    assert len(read(path, valid=0.0).train[1]) == 20_000


def test_a_row_number_beyond_16_million_still_only_counts_rows() -> None:
    cells = tuple(str(i) for i in range(2**24, 2**24 + 10))
    column = csv_large._Column()
    column.take(cells, wide=may_name_rows("id"))
    assert np.diff(np.concatenate(column.pieces)).tolist() == [1.0] * 9


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>\n<html><body>, </body></html>\n", "is a page of the web or XML, no table"),
        (b"  <html>\n<p>404</p>\n", "is a page of the web or XML"),
        (b"PK\x03\x04" + b"\0" * 40, r"an archive or a spreadsheet \(zip\), no table of text"),
        (b"%PDF-1.7 ...", "is a PDF, no table"),
        (b"\x1f\x8b\x08\x00", "is packed by gzip, no table"),
        (b"\x00\x01\x02" * 100, "is no text file"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_csv_is_told_by_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        load_path(path)
    assert "\n" not in str(caught.value)
