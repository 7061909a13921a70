"""Odd tables: each is read as its author meant it, or refused in one line that says where and why."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from downslope.core.errors import DataError
from downslope.data import load_path
from downslope.data.csv_text import read_cells

Writer = Callable[..., Path]
QUOTE = '"'


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return writer


def rows_of(loaded) -> set[tuple[float, ...]]:
    inputs, target = loaded.train
    return {(*row, float(y)) for row, y in zip(inputs.tolist(), target, strict=True)}


def test_cells_are_those_of_pythons_reader_where_text_breaks_lines_oddly(tmp_path: Path) -> None:
    cells = [["a", "b", "c"], ["x\x0cy", "1", "u\u2028v"], ["two\nlines", "2", "w\x85"], ["", "3", "\x1c."]]
    path = tmp_path / "odd.csv"
    with path.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(cells)
    found = read_cells(path, "a")
    assert [found.names, *found.rows] == [[cell.strip() for cell in row] for row in cells]
    assert found.lines == [2, 3, 5]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_of_every_system_count_alike(write: Writer, ending: str) -> None:
    text = ending.join(["x,y", "1,0.5", "", '2,"1.5"', "3,2.5"])
    assert read_cells(write(text)).lines == [2, 4, 5]


@pytest.mark.parametrize(
    ("delimiter", "cell", "value", "told"),
    [
        (",", "1,234", 1234.0, "thousands"),
        (",", "1,234,567.25", 1234567.25, "thousands"),
        (";", "1,234.5", 1234.5, "thousands"),
        (";", "1,234", 1.234, "decimal comma"),
        (",", "1,5", 1.5, "decimal comma"),
    ],
)
def test_commas_group_thousands_or_mark_decimals(
    write: Writer, delimiter: str, cell: str, value: float, told: str
) -> None:
    body = "".join(f'"{cell}"{delimiter}{i}.5\n' for i in range(4))
    loaded = load_path(write(f"x{delimiter}y\n" + body), valid=0.0)
    assert loaded.train[0].unique().tolist() == [pytest.approx(value)]
    assert any(told in line for line in loaded.told)


@pytest.mark.parametrize("day", ["2024-03-{:02d}", "{}/3/2024", "{}.3.24", "2024-03-{:02d} 12:30:00"])
def test_a_column_of_dates_is_left_out_and_told_however_often_they_recur(write: Writer, day: str) -> None:
    body = "".join(f"{day.format(i % 9 + 1)},{i},{i / 3}\n" for i in range(40))
    loaded = load_path(write("day,x,y\n" + body), valid=0.0)
    assert loaded.features == ["x"]
    assert any("'day' holds dates" in line for line in loaded.told)


def test_truth_values_become_0_and_1(write: Writer) -> None:
    body = "".join(f"{str(i % 3 == 0).lower()},{i / 3}\n" for i in range(12))
    loaded = load_path(write("flag,y\n" + body), valid=0.0)
    assert loaded.features == ["flag=true"]
    assert len(loaded.train[1]) == 12
    assert all(flag == float(round(3 * y) % 3 == 0) for flag, y in rows_of(loaded))


def test_a_cell_that_is_no_number_in_a_target_of_numbers_loses_its_row_and_is_told(write: Writer) -> None:
    body = "".join(f"{i},{'oops' if i == 7 else i / 3}\n" for i in range(40))
    loaded = load_path(write("x,y\n" + body), valid=0.0)
    assert loaded.task == "regression"
    assert sorted(loaded.train[0].flatten().tolist()) == [float(i) for i in range(40) if i != 7]
    assert any("'oops' in line 9" in line for line in loaded.told)


@pytest.mark.parametrize("cell", ["person {}", "2024-01-01 {:02d}:00"])
def test_a_target_that_only_names_its_rows_is_refused(write: Writer, cell: str) -> None:
    body = "".join(f"{i},{cell.format(i)}\n" for i in range(60))
    with pytest.raises(DataError, match="60 different values in 60 rows") as told:
        load_path(write("x,y\n" + body))
    assert "\n" not in str(told.value)


def test_a_target_of_many_classes_that_recur_is_learnt(write: Writer) -> None:
    body = "".join(f"{i},breed {i % 40}\n" for i in range(200))
    loaded = load_path(write("x,y\n" + body))
    assert len(loaded.classes) == 40


def test_lines_that_end_with_the_delimiter_have_no_column_more(write: Writer) -> None:
    loaded = load_path(write("x,y,\n" + "".join(f"{i},{i / 3},\n" for i in range(9))), valid=0.0)
    assert (loaded.features, loaded.target) == (["x"], "y")


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-16", None), ("utf-8-sig", None), ("cp1252", "Windows-1252"), ("latin-1", "Latin-1")],
)
def test_encodings_of_other_systems_are_read(write: Writer, encoding: str, told: str | None) -> None:
    word = "caf\u00e9" if encoding == "latin-1" else "5 \u20ac\u2026"
    body = "".join(f"{word if i % 2 else 'tea'},{i / 3}\n" for i in range(9))
    loaded = load_path(write("gr\u00f6\u00dfe,y\n" + body, encoding), valid=0.0)
    assert loaded.features in (["gr\u00f6\u00dfe=tea"], [f"gr\u00f6\u00dfe={word}"])
    assert sorted({*"".join(loaded.features)} - {*"gr\u00f6\u00dfe=tea", *word}) == []
    assert any("not UTF-8" in line for line in loaded.told) == (told is not None)
    assert told is None or any(told in line for line in loaded.told)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("x,note,y\n" + "".join(f"{i},{QUOTE * (i == 5)}abc,{i}\n" for i in range(20)), "line 7.*quote"),
        (f"x,note,y\n1,{QUOTE}a\nb{QUOTE},1\n2,{QUOTE}{'z' * 200_000}{QUOTE},2\n", "line 4"),
        ("x\n" + "".join(f"{i}\n" for i in range(9)), "it is the only one"),
    ],
)
def test_what_cannot_be_cut_into_rows_is_refused_with_its_line(write: Writer, text: str, word: str) -> None:
    with pytest.raises(DataError, match=word) as told:
        load_path(write(text))
    assert "\n" not in str(told.value)


def test_a_text_that_memory_would_not_hold_is_refused_before_it_is_read(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("x,y\n" + "1,2\n" * 1000)
    monkeypatch.setattr("downslope.core.memory.available", lambda: 20 * 4000.0)
    with pytest.raises(DataError, match=r"table\.csv: would take .* of memory") as told:
        load_path(path)
    assert "\n" not in str(told.value)
    monkeypatch.setattr("downslope.core.memory.available", lambda: 22 * 4004.0)
    assert len(load_path(path, valid=0.0).train[1]) == 1000


def test_a_constant_column_is_told_and_harms_nothing(write: Writer) -> None:
    loaded = load_path(write("c,x,y\n" + "".join(f"7,{i},{i / 3}\n" for i in range(9))), valid=0.0)
    assert torch.equal(loaded.train[0][:, 0], torch.full((9,), 7.0))
    assert any("'c' is constant" in line for line in loaded.told)


@pytest.mark.parametrize(("column", "text"), [("a", "{},0.5\n"), ("y", "0.5,{}\n")])
def test_numbers_beyond_float32_are_told_with_the_first_line_and_how_many_in_the_file(
    write: Writer, column: str, text: str
) -> None:
    cells = [f"{i / 7}" for i in range(40)]
    cells[11] = cells[4] = cells[30] = "-1e300"
    with pytest.raises(DataError) as raised:
        load_path(write("a,y\n" + "".join(text.format(cell) for cell in cells)), "y")
    said = f"table.csv line 6, column {column!r}: -1e300 (the first of 3 such values) overflows float32"
    assert str(raised.value).startswith(said)
    assert "rescale the column" in str(raised.value)


def test_a_first_row_of_numbers_taken_as_the_header_is_told(write: Writer) -> None:
    path = write("1.0,0.3\n" + "".join(f"{i},{i / 7}\n" for i in range(20)))
    told = load_path(path, "0.3").told
    assert any("first row, all numbers, was taken as the header" in line for line in told)
    assert not any("first row" in line for line in load_path(path).told)


def test_columns_named_alike_are_told_and_two_targets_refused(write: Writer) -> None:
    path = write("a,b,a,y,y\n" + "".join(f"{i},{i % 3},{-i},{i},{2 * i}\n" for i in range(20)))
    found = read_cells(path, "b")
    assert found.names == ["a", "b", "a.2", "y", "y.2"]
    assert "2 columns named 'a': the second is called a.2" in found.doubts
    with pytest.raises(DataError, match="2 columns named 'y': the target must be one"):
        read_cells(path, "y")


@pytest.mark.parametrize("ending", [".csv", ".dat", ".data", ".txt"])
def test_rows_of_numbers_between_blanks_are_a_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"housing{ending}"
    path.write_text("".join(f" {i / 7:.4f}   {i}  -2e3\t{i * i / 3:.3f} \n" for i in range(20)))
    found = load_path(path, valid=0.0)
    assert found.train[0].shape == (20, 3)
    assert sorted(found.train[1].tolist()) == pytest.approx([i * i / 3 for i in range(20)], abs=1e-3)
    assert "cells are separated by blanks" in found.told


def test_a_quoted_name_behind_a_tab_is_one_cell_of_a_table_between_blanks(write: Writer) -> None:
    cars = [
        '18.0   8   307.0  ?  1\t"chevrolet chevelle"\n',
        '15.5   4   350.0  165.0  2\t"buick, skylark"\n',
    ]
    found = load_path(write("".join(cars * 10)), "column1", valid=0.0)
    assert found.features == [*(f"column{i}" for i in range(2, 6)), "column6=chevrolet chevelle"]


def test_names_above_a_table_between_blanks_are_its_header(write: Writer) -> None:
    assert read_cells(write("x  y   z\n1 2.5 3\n 4 5.5 6\n")).names == ["x", "y", "z"]


def test_sentences_of_equally_many_words_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "cats.txt"
    path.write_text("I have 2 cats and 3 dogs\nI have 4 cats and 5 dogs\n" * 40)
    assert load_path(path).task == "language"


def test_a_large_table_between_blanks_is_read_as_a_small_one(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("".join(f"  {i}.5   {i % 3}  7\t {i / 3:.3f}\n" for i in range(40)))
    small = load_path(path, valid=0.0)
    monkeypatch.setattr("downslope.data.csv_large.LARGE", 0)
    assert torch.equal(small.train[0], load_path(path, valid=0.0).train[0])


def test_missing_cells_among_texts_are_told_to_be_a_category(write: Writer) -> None:
    text = "c,d,y\n" + "red,u,1.5\nblue,v,2.5\n" * 20
    found = load_path(write(text + ",u,3.5\n?,v,4.5\nred,NA,5.5\n"), "y", valid=0.0)
    assert "column 'c': 2 cells are missing: a category of their own" in found.told
    assert "column 'd': 1 cell is missing: a category of its own" in found.told
    assert not any("category" in line for line in load_path(write(text), "y").told)


@pytest.mark.parametrize("large", [False, True])
def test_comments_above_a_table_are_skipped_and_told(
    write: Writer, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    if large:
        monkeypatch.setattr("downslope.data.csv_large.LARGE", 0)
    rows = "".join(f"{i / 7},{i / 3}\n" for i in range(20))
    found = load_path(write("# made by hand\n# units: m\nx,y\n" + rows), valid=0.0)
    assert (found.features, found.target, min(found.origins[0].at)) == (["x"], "y", 4)
    assert "2 lines of comment (#) at the start skipped" in found.told
    assert load_path(write("#x,y\n" + rows), valid=0.0).features == ["#x"]


def test_so_many_columns_of_one_kind_are_told_in_one_line_and_read_at_once(write: Writer) -> None:
    width = 20_000
    head = ",".join(f"f{i}" for i in range(width))
    row = ",".join(["0.5"] * width)
    loaded = load_path(write(f"{head},y\n" + "".join(f"{row},{i % 2}\n" for i in range(6))), valid=0.0)
    assert len(loaded.features) == width
    assert [line for line in loaded.told if "constant" in line] == [
        f"column 'f0' is constant (the first of {width} columns)"
    ]


def test_excels_line_that_names_the_delimiter_is_no_row(
    write: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("sep=;\r\nx;y\r\n" + "".join(f"{i / 7};{i / 3}\r\n" for i in range(20)))
    found = load_path(path, valid=0.0)
    assert (found.features, found.target, min(found.origins[0].at)) == (["x"], "y", 3)
    assert "the line of Excel that names the delimiter skipped" in found.told
    monkeypatch.setattr("downslope.data.csv_large.LARGE", 0)
    assert torch.equal(load_path(path, valid=0.0).train[0], found.train[0])


@pytest.mark.parametrize("mark", ["#N/A", ".", "n.a.", "<NA>", "--", "#DIV/0!"])
def test_marks_of_other_programs_for_a_missing_value_are_known(write: Writer, mark: str) -> None:
    text = "x,z,y\n" + "".join(f"{mark if i % 4 == 0 else i / 7},{i % 5},{i / 3}\n" for i in range(40))
    found = load_path(write(text), valid=0.0)
    assert found.features == ["x", "z"]
    assert "missing values are kept as NaN: 'x' 10" in found.told


@pytest.mark.parametrize("encoding", ["utf-32", "utf-16"])
def test_wide_encodings_with_a_mark_are_read(write: Writer, encoding: str) -> None:
    text = "x,y\n" + "".join(f"{i / 7},{i / 3}\n" for i in range(20))
    assert load_path(write(text, encoding), valid=0.0).features == ["x"]


@pytest.mark.parametrize("text", ['[{"a": 1, "y": 2}]', '{"a": [1, 2]}\n', ' {"a": 1}\n{"a": 2}\n'])
def test_json_is_called_so(write: Writer, text: str) -> None:
    with pytest.raises(DataError, match=r"table\.csv is JSON, no table"):
        load_path(write(text))


@pytest.mark.parametrize(
    ("ending", "said"), [(".csv.gz", "unpack it first"), (".xlsx", "save the table as .csv")]
)
def test_packed_tables_and_spreadsheets_are_told_what_to_do(tmp_path: Path, ending: str, said: str) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(DataError, match=said):
        load_path(path)
