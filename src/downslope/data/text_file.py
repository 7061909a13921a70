"""A text becomes tokens, one for each character or each byte, cut by position into two parts."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.numerals import many
from downslope.data.csv_text import separated_by_blanks
from downslope.data.table import Text
from downslope.data.windows import Windows

Level = Literal["character", "byte"]

MOST_CHARACTERS = 4096
"""Different characters above which bytes are the tokens: an output for each would be most of the model."""

BLOCK = 64
"""Tokens of a window, unless told otherwise; that of nanoGPT's recipe for a CPU."""

SHORTEST = 3
"""Tokens of the shortest text of which any can be predicted: one, the next, and one that is held out."""

GROWTH = 13
"""Bytes of memory that a byte of text takes while it is read: itself, decoded, code points, tokens."""

_WORDS = 3
"""Words between two commas, on average, above which they are those of sentences."""

_CHUNK = 2**22
_UNICODE = 0x110000


def text(
    path: str | Path,
    *,
    block: int | None = None,
    level: Level | None = None,
    valid: float | str | Path = 0.1,
) -> Text:
    """Windows over a text file for next-token prediction.

    Args:
        path: UTF-8, or anything where each byte is a token.
        block: tokens of a window, at least 1; 64 unless the text is too short for a hundred of these.
        level: "character", the vocabulary being those that occur, sorted; or "byte", of 256. Left out:
            characters, or bytes where the text is not UTF-8 or has more than 4096 different ones.
        valid: share held out at the end of the text, float in [0, 1); or a second file, with characters of
            the first alone.

    Returns:
        The parts and the vocabulary.

    Raises:
        DataError: unreadable, no text, too short, or a character that the training text does not hold.
    """
    path = Path(path).expanduser()
    if level not in (None, "character", "byte"):
        raise DataError(f"level={level!r}: must be 'character' or 'byte'")
    raw = _read(path)
    tokens, vocabulary, told = _tokens(path, raw, level)
    second = None
    if isinstance(valid, (str, Path)):
        second = tokens_like(_read(Path(valid)), vocabulary, Path(valid).name)
        valid = 0.0
    if not 0 <= valid < 1:
        raise DataError(f"valid={valid}: must lie in [0, 1), it is the share held out; 0.1 is usual for text")
    if len(vocabulary) == 1 < len(tokens):
        raise DataError(
            f"{path.name}: the text repeats one character, {vocabulary!r}: there is nothing to predict; take "
            "a text of several"
        )
    if len(tokens) < SHORTEST:
        raise DataError(
            f"{path.name}: {many(len(tokens), 'token')}: too short to predict the next from those before; a "
            "text of some thousand characters is needed"
        )
    cut = round(len(tokens) * (1 - valid))
    rest = second if second is not None else tokens[cut:]
    size = len(vocabulary) or 256
    if block == size:
        raise DataError(
            f"block={block}: equals the number of different tokens, and no objective can tell the axis of "
            f"the classes from that of the steps; take {size - 1} or {size + 1}"
        )
    if block is None:
        shortest = min(len(part) for part in (tokens[:cut], rest) if len(part))
        block = max(1, min(BLOCK, shortest // 100))
        block -= 1 if block == size > 1 else 0
        unit = "character" if vocabulary else "byte"
        told.append(f"windows of {block} {unit}{'' if block == 1 else 's'}")
    reading = {"kind": "text", "vocabulary": vocabulary, "block": block}
    train = Windows(tokens[:cut], block, size, reading)
    held = Windows(rest, block, size, reading) if len(rest) > block else None
    if held is None and len(rest):
        told.append(f"the {len(rest)} tokens held out do not fill a window: there is no validation part")
    elif held is not None and second is None:
        told.append(f"the last {len(rest):,} of {len(tokens):,} tokens are held out")
    return Text(train, held, spelt(vocabulary), told, reading)


def load_text(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Text:
    """A text file, as `downslope.data.paths.load_path` reads it.

    Raises:
        DataError: a target, which a text does not have.
    """
    del seed  # a text is cut by position: pieces of it drawn at random would be neighbours of one another
    if target is not None:
        raise DataError(
            f"{path.name}: no column {target!r}, the file is running text and no table; leave the target out"
        )
    return text(path, valid=valid)


def spelt(vocabulary: str) -> list[str]:
    """What each token stands for, of a vocabulary of characters, or of bytes where it is empty."""
    return list(vocabulary) or [f"\\x{i:02x}" for i in range(256)]


def tokens_like(raw: bytes, vocabulary: str, name: str) -> Tensor:
    """The tokens of a text in a vocabulary that is known; an empty one is that of bytes.

    Args:
        raw: The text's bytes.
        vocabulary: Characters in the order of their tokens.
        name: Of the text, for messages.

    Raises:
        DataError: not UTF-8, or a character that the vocabulary does not hold.
    """
    if not vocabulary:
        return torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy())
    try:
        codes = _codes(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: byte {error.start} is not UTF-8, and the tokens are characters; convert the text, or "
            "train with level='byte'"
        ) from None
    table = np.full(_UNICODE, -1, dtype=np.int32)
    table[_codes(vocabulary)] = np.arange(len(vocabulary), dtype=np.int32)
    found = table[codes]
    odd = np.flatnonzero(found < 0)
    if len(odd):
        at = int(odd[0])
        raise DataError(
            f"{name}: character {chr(int(codes[at]))!r} at {at} does not occur in the text that the "
            "vocabulary was taken from; remove such characters, or train with level='byte'"
        )
    return torch.from_numpy(found.astype(np.uint8) if len(vocabulary) <= 256 else found)


def is_running_text(head: bytes) -> bool:
    """Whether a file that begins with `head` is no table: too few of its lines have equally many cells."""
    lines = head.decode("utf-8", errors="replace").split("\n")[:-1]  # the last may be cut
    lines = [line for line in lines if line.strip()][:50]
    if not lines:
        return True
    for delimiter in (",", ";", "\t", "|"):
        counts = [line.count(delimiter) for line in lines]
        most = max(set(counts), key=counts.count)
        spaced = sum(len(line.split()) for line in lines) > _WORDS * sum(count + 1 for count in counts)
        if most and counts.count(most) >= 0.9 * len(lines) and not (spaced and delimiter in ",;"):
            return False
    return not separated_by_blanks(lines)


def _read(path: Path) -> bytes:
    try:
        memory.refuse_beyond(
            path.name, path.stat().st_size * GROWTH, "cut it into several files, or give a part of it"
        )
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not raw.strip():
        raise DataError(f"{path.name} is empty; a text of some thousand characters is needed")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace").encode()
    if b"\0" in raw[:65536]:
        raise DataError(
            f"{path.name} holds zero bytes and is no text; arrays belong in .npz, and bytes of any kind in "
            "ds.data.Windows(tokens, block, 256)"
        )
    return raw


def _tokens(path: Path, raw: bytes, level: Level | None) -> tuple[Tensor, str, list[str]]:
    """Tokens, vocabulary ("" for bytes), and what was decided."""
    try:
        written = raw.decode("utf-8-sig") if level != "byte" else ""
    except UnicodeDecodeError as error:
        if level == "character":
            raise DataError(
                f"{path.name}: byte {error.start} is not UTF-8; convert the text, or take level='byte'"
            ) from None
        return tokens_like(raw, "", path.name), "", ["the text is not UTF-8: each byte is a token"]
    if level == "byte":
        return tokens_like(raw, "", path.name), "", ["each byte is a token"]
    vocabulary = _vocabulary(written)
    if level is None and len(vocabulary) > MOST_CHARACTERS:
        why = f"{len(vocabulary)} different characters are more than {MOST_CHARACTERS}: each byte is a token"
        return tokens_like(raw, "", path.name), "", [why]
    del written
    told = [f"each character is a token: {len(vocabulary)} different ones"]
    return tokens_like(raw, vocabulary, path.name), vocabulary, told


def _codes(written: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(written.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)


def _vocabulary(written: str) -> str:
    there = np.zeros(_UNICODE, dtype=bool)
    for start in range(0, len(written), _CHUNK):
        there[_codes(written[start : start + _CHUNK])] = True
    return "".join(map(chr, np.flatnonzero(there).tolist()))


def decoded(tokens: Tensor, reading: Mapping[str, Any]) -> str:
    """The text that tokens stand for."""
    vocabulary = cast("str", reading["vocabulary"])
    numbers = cast("list[int]", tokens.tolist())
    return "".join(vocabulary[i] for i in numbers) if vocabulary else bytes(numbers).decode(errors="replace")
