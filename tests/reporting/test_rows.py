from __future__ import annotations

import io

import pytest

from downslope.reporting.rows import Row, render, styled, write

ROWS = [
    Row("digits.py  CPU 2 cores", tone="strong"),
    Row("460/460  3.1 s", label="fit"),
    Row("lr 0.5 = 38 x the stable limit 0.013", label="seen", indent=2),
    Row("NOT LEARNING", tone="bad"),
]


def test_labels_stand_in_one_column() -> None:
    assert render(ROWS).splitlines() == [
        "digits.py  CPU 2 cores",
        "fit     460/460  3.1 s",
        "  seen  lr 0.5 = 38 x the stable limit 0.013",
        "NOT LEARNING",
    ]


@pytest.mark.parametrize("width", [32, 40, 61, 100])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_lost(width: int) -> None:
    row = Row("the quick brown fox jumps over the lazy dog " * 4, label="seen", indent=2)
    lines = row.lines(width)
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split()[1:] == row.text.split()
    assert all(line.startswith(" " * 8) for line in lines[1:])


def test_styled_text_reads_as_the_plain_one() -> None:
    for width in (40, 100):
        assert styled(ROWS, width).plain == render(ROWS, width)


def test_a_file_gets_no_colour() -> None:
    stream = io.StringIO()
    write(ROWS, stream)
    assert stream.getvalue() == render(ROWS, 100) + "\n"
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(("said", "width"), [("60", 60), ("", 100), ("wide", 100), ("0", 100)])
def test_a_pipe_is_as_wide_as_columns_says(said: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", said)
    rows = [Row("word " * 40, label="seen")]
    stream = io.StringIO()
    write(rows, stream)
    assert stream.getvalue() == render(rows, width) + "\n"
    assert max(map(len, stream.getvalue().splitlines())) <= width


def test_a_terminal_gets_colour_unless_it_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    write(ROWS, coloured)
    assert "\x1b[" in coloured.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    write(ROWS, plain)
    assert plain.getvalue() == render(ROWS, 90) + "\n"


def test_a_stream_in_ascii_does_not_end_the_run() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    write([Row("Müller → done")], stream)
    stream.flush()
    assert stream.buffer.getvalue() == b"M?ller ? done\n"  # type: ignore[attr-defined]
