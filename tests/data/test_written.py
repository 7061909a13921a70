"""Numbers as people write them: each form against what Python's own decimal and locale rules make of it."""

from __future__ import annotations

import itertools
from decimal import Decimal
from pathlib import Path

import pytest

from downslope.core.errors import DataError
from downslope.data import load_path
from downslope.data.again import read_again
from downslope.data.written import Written, form_of, mostly_numbers

VALUES = [Decimal(text) for text in ("0.5", "12.25", "-3.75", "1234.5", "-98765.25", "1234567.125")]


def spelt(value: Decimal, decimal: str, group: str) -> str:
    """As `str.format` groups it, with other marks."""
    return f"{value:,}".replace(",", "#").replace(".", decimal).replace("#", group)


@pytest.mark.parametrize("marks", [".,", ",.", ", ", ". ", ".'", ","])
@pytest.mark.parametrize("sign", ["{}", "{}%", "{} %", "${}", "€ {}", "{}€", "{} ₽"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_form_gives_the_values_that_were_written(marks: str, sign: str, delimiter: str) -> None:
    cells = [sign.format(spelt(value, marks[0], marks[1:])) for value in VALUES]
    form = form_of(["", *cells, "NA"], delimiter)
    assert form is not None
    assert [form.read(cell) for cell in cells] == [float(value) for value in VALUES]
    assert form.sign == sign.replace("{}", "").strip()


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["-$3.50", "$-4.50", "($1,200.00)", "$0.10"], [-3.5, -4.5, -1200.0, 0.1]),
        (["1\u00a0234,5", "1\u202f234,5", "7"], [1234.5, 1234.5, 7.0]),
        (["1\u2019234.50", "12.5"], [1234.5, 12.5]),
        (["\u22123.5", "4"], [-3.5, 4.0]),
        (["0,123", "2,5"], [0.123, 2.5]),
        (["1.234.567", "5"], [1234567.0, 5.0]),
    ],
)
def test_other_signs_and_blanks(cells: list[str], values: list[float]) -> None:
    form = form_of(cells)
    assert form is not None
    assert [form.read(cell) for cell in cells] == values


@pytest.mark.parametrize(
    "cells",
    [
        ["5%", "0.05"] * 10,  # of the second nobody knows what it means
        ["$5", "€6"] * 10,
        ["12 kg", "13 kg"] * 10,
        ["A1001", "A1002"] * 10,
        ["12:30", "13:45"] * 10,
        ["10.0.0.1", "192.168.1.20"] * 10,
        ["100% cotton", "50% wool"] * 10,
        ["2024-01-05", "2024-02-06"] * 10,
        ["yes", "no"] * 10,
        ["5%%", "6%"] * 10,
        ["", "NA"],
    ],
)
def test_what_is_no_number_stays_text(cells: list[str]) -> None:
    assert form_of(cells) is None


def table(folder: Path, form: str) -> Path:
    path = folder / "table.csv"
    path.write_text("p;y\n" + "".join(f"{form.format(i + 1)};{i / 3}\n" for i in range(40)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("{}%", "is written with '%': '1%' is read as 1.0"),
        (
            "€1.{:03d},50",
            "is written with '€', points between thousands and a decimal comma",
        ),
        ("{},25", "is written with a decimal comma: '1,25' is read as 1.25"),
        ("1 {:03d},5", "is written with blanks between thousands and a decimal comma: '1 001,5'"),
    ],
)
def test_a_column_is_read_as_numbers_and_told_in_one_line(tmp_path: Path, form: str, said: str) -> None:
    loaded = load_path(table(tmp_path, form), valid=0.0)
    assert loaded.features == ["p"]
    told = [line for line in loaded.told if "'p'" in line]
    assert len(told) == 1
    assert said in told[0]
    found = sorted(loaded.train[0].flatten().tolist())
    assert [round(b - a, 4) for a, b in itertools.pairwise(found)] == [1.0] * 39


def test_the_target_is_read_in_its_form_and_the_second_file_as_the_first(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f'{i}%,"$1,{i:03d}.50"\n' for i in range(100, 140))
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text(text, encoding="utf-8")
    second.write_text('x,y\n7%,$3.25\n8.5%,"$2,000"\n', encoding="utf-8")
    loaded = load_path(first, valid=second)
    assert (loaded.task, sorted(loaded.train[1].tolist())[:2]) == ("regression", [1100.5, 1101.5])
    inputs, target = loaded.valid or pytest.fail("no validation part")
    assert (inputs.flatten().tolist(), target.tolist()) == ([7.0, 8.5], [3.25, 2000.0])
    second.write_text("x,y\n7,$3.25\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.csv line 2, column 'x': '7' is no number with '%'"):
        load_path(first, valid=second)


def test_predictions_read_the_form_that_the_run_kept(tmp_path: Path) -> None:
    loaded = load_path(table(tmp_path, "€1.{:03d},50"), valid=0.0)
    kept = loaded.reading["columns"]
    assert kept == [{"name": "p", "kind": "number", "decimal": ",", "group": ".", "sign": "€"}]
    (tmp_path / "new.csv").write_text("p;z\n€2.000,25;1\n€7;1\n", encoding="utf-8")
    assert read_again(tmp_path / "new.csv", loaded.reading).inputs.flatten().tolist() == [2000.25, 7.0]


def test_runs_of_before_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("p;z\n2,5;1\n7;1\n", encoding="utf-8")
    reading = {"kind": "table", "file": "t.csv", "columns": [{"name": "p", "kind": "number", "decimal": ","}]}
    assert read_again(tmp_path / "new.csv", reading).inputs.flatten().tolist() == [2.5, 7.0]


def test_a_few_cells_that_are_no_numbers_are_missing_and_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("p,y\n" + "".join(f"{'ask' if i == 7 else f'${i}.50'},{i / 3}\n" for i in range(40)))
    loaded = load_path(path, valid=0.0)
    assert int(loaded.train[0].isnan().sum()) == 1
    assert "column 'p': 1 cell is no number and taken as missing, the first is 'ask' in line 9" in loaded.told


def test_mixed_signs_are_told_and_named_where_such_a_column_is_the_target(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "".join(f"{i},{i / 3},{'$€'[i % 2]}{i}.25\n" for i in range(60))
    path.write_text(f"z,x,p\n{rows}", encoding="utf-8")
    with pytest.raises(DataError, match=r"60 rows: it looks like numbers.*'\$' or '€'"):
        load_path(path)
    told = load_path(path, "x").told
    assert any("left out; it looks like numbers, some of them with" in line for line in told)


def test_a_plain_form_says_so() -> None:
    assert Written().plain
    assert not Written(sign="%").plain


def test_a_column_of_numbers_with_words_in_it_names_the_words() -> None:
    cells = [str(i) for i in range(18)] + ["abc", "n. d."]
    said = mostly_numbers(cells)
    assert said is not None
    assert said.startswith("holds numbers but for 10% of its cells, such as 'abc', 'n. d.'")
    assert mostly_numbers(["a", "b", "1"]) is None
    assert mostly_numbers(["1", "", "2"]) is None
