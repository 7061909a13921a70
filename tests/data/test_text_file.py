"""Texts: what a token is, how the text is cut, what is told and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data import Loaded, Text, load_path, text
from downslope.data.text_file import decoded

PROSE = "It was the best of times, it was the worst of times; it was the age of wisdom.\nAnd on.\n" * 60


def book(folder: Path, content: str | bytes = PROSE, name: str = "book.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_vocabulary_is_the_sorted_characters_and_tokens_spell_the_text(tmp_path: Path) -> None:
    found = text(book(tmp_path), valid=0.0)
    assert found.classes == sorted(set(PROSE))
    assert decoded(found.train.tokens, found.reading) == PROSE
    assert found.valid is None


def test_a_text_is_cut_by_position(tmp_path: Path) -> None:
    found = text(book(tmp_path), valid=0.25, block=8)
    assert found.valid is not None
    cut = round(len(PROSE) * 0.75)
    assert decoded(found.train.tokens, found.reading) == PROSE[:cut]
    assert decoded(found.valid.tokens, found.reading) == PROSE[cut:]


def test_characters_of_any_script_are_tokens(tmp_path: Path) -> None:
    written = "道可道，非常道。Ünder 🎈\r\n" * 40
    found = text(book(tmp_path, written), valid=0.0)
    assert decoded(found.train.tokens, found.reading) == written
    assert len(found.classes) == len(set(written))


def test_bytes_are_tokens_where_it_is_said_or_no_utf_8(tmp_path: Path) -> None:
    raw = "Größe und Maß\n".encode("latin-1") * 100
    found = text(book(tmp_path, raw), valid=0.0)
    assert found.train.tokens.numpy().tobytes() == raw
    assert "not UTF-8" in found.told[0]
    said = text(book(tmp_path, "é" * 500), level="byte", valid=0.0)
    assert said.train.tokens.tolist() == list("é".encode()) * 500
    assert len(said.classes) == said.train.vocabulary == 256


def test_a_text_of_too_many_characters_is_read_as_bytes_and_that_is_told(tmp_path: Path) -> None:
    found = text(book(tmp_path, "".join(map(chr, range(0x4E00, 0x4E00 + 5000)))), valid=0.0)
    assert found.train.vocabulary == 256
    assert "5000 different characters" in found.told[0]


def test_a_txt_of_prose_is_running_text_and_one_of_rows_a_table(tmp_path: Path) -> None:
    assert isinstance(load_path(book(tmp_path)), Text)
    rows = "a\tb\n" + "".join(f"{i}.5\t{i * i % 7}.25\n" for i in range(40))
    assert isinstance(load_path(book(tmp_path, rows, "rows.txt")), Loaded)
    assert isinstance(load_path(book(tmp_path, PROSE, "notes.md")), Text)


def test_a_second_text_is_read_with_the_firsts_vocabulary(tmp_path: Path) -> None:
    second = book(tmp_path, "the age of times, " * 20, "second.txt")
    found = text(book(tmp_path), valid=second, block=8)
    assert found.valid is not None
    assert decoded(found.valid.tokens, found.reading) == "the age of times, " * 20
    assert len(found.train.tokens) == len(PROSE)
    odd = book(tmp_path, "the age of Zeus", "odd.txt")
    with pytest.raises(DataError, match=r"odd\.txt: character 'Z' at 11 does not occur"):
        text(book(tmp_path), valid=odd)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n ", "is empty"),
        (b"ab\0\0cd" * 50, "holds zero bytes and is no text"),
        (b"a", r"book\.txt: 1 token: too short"),
        (b"ab", r"book\.txt: 2 tokens: too short"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        text(book(tmp_path, content), valid=0.0)
    assert "\n" not in str(caught.value)


def test_a_target_does_not_go_with_a_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'x', the file is running text"):
        load_path(book(tmp_path, name="notes.md"), "x")


def test_a_level_or_share_outside_its_domain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="level='word'"):
        text(book(tmp_path), level="word")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"valid=1\.5"):
        text(book(tmp_path), valid=1.5)


def test_a_text_beyond_the_memory_is_told_before_it_is_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000.0)
    with pytest.raises(DataError, match=r"book\.txt: would take .* of memory"):
        text(book(tmp_path))


def test_a_short_text_gets_short_windows_and_says_so(tmp_path: Path) -> None:
    found = text(book(tmp_path, "abcdefghij" * 30), valid=0.5)
    assert found.train.block == 1
    assert "windows of 1 character" in found.told
    assert torch.equal(found.train.tokens[:3], torch.tensor([0, 1, 2], dtype=torch.uint8))


def test_a_text_of_one_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"book\.txt: the text repeats one character, 'a'"):
        text(book(tmp_path, "a" * 5000))
