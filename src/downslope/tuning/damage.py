"""What a crash leaves of a journal: an unfinished last line, or a broken one among the others."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from downslope.core.errors import StorageError

_START = b'{"op_code":'
_NEW_TRIAL = b'"op_code":4'


def check_kind(path: Path) -> None:
    """Refuse a file that begins as no journal does, before anything is made beside it or changed in it.

    Raises:
        StorageError: it is no journal.
        OSError: it cannot be read.
    """
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(len(_START))
        if not _START.startswith(start):
            raise _no_journal(path)


def cut_tail(path: Path) -> str:
    """Take an unfinished last line out of a journal, to ``JOURNAL.torn``; the caller holds its lock.

    It was never confirmed to anybody. Left where it is, the next record joins it, which ends the file for
    everybody (optuna#5138).

    Returns:
        What was done, in one line; "" if nothing.

    Raises:
        OSError: it cannot be read or written.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        if file.read(1) in (b"", b"\n"):
            return ""
        file.seek(0)
        data = file.read()
    end = data.rfind(b"\n") + 1
    _keep(path.with_name(path.name + ".torn"), data[end:] + b"\n")
    os.truncate(path, end)
    return f"{path}: its last line was unfinished and is now in {path.name}.torn"


def mend_lines(path: Path) -> str:
    """Mend broken lines of a journal, after a copy to ``JOURNAL.bad``; the caller holds its lock.

    One that a record was joined to keeps that record; the broken beginning of a trial becomes a failed trial,
    so that those after it keep their numbers; another broken record is left out. What is no record at all
    ends the file there.

    Returns:
        What was done, in one line; "" if nothing.

    Raises:
        StorageError: it is no journal.
        OSError: it cannot be read or written.
    """
    data = path.read_bytes()
    lines = data.split(b"\n")[:-1]
    if lines and _record(lines[0]) is None and b'"op_code":' not in lines[0]:
        raise _no_journal(path)
    kept, bad, lost = _kept(lines)
    if not bad and not lost:
        return ""
    _keep(path.with_name(path.name + ".bad"), data)
    aside = path.with_name(path.name + ".mended")
    aside.write_bytes(b"".join(each + b"\n" for each in kept))
    aside.replace(path)
    left = f", the last {lost} left out" if lost else ""
    broken = f"{bad + bool(lost)} of {len(lines)} lines were broken{left}"
    return f"{path}: {broken}; the file as it was is {path.name}.bad"


def _no_journal(path: Path) -> StorageError:
    return StorageError(f"{path} is no journal of a search: give another file or folder")


def _kept(lines: list[bytes]) -> tuple[list[bytes], int, int]:
    """The lines to go on with, how many of them were mended, and how many after the last are left out."""
    kept: list[bytes] = []
    bad = 0
    for i, line in enumerate(lines):
        if _record(line) is not None:
            kept.append(line)
            continue
        whole = _suffix(line)
        if whole is not None:
            kept.append(whole)
        elif _NEW_TRIAL in line:
            kept.append(_stand_in(line))
        elif b'"op_code":' not in line:
            return kept, bad, len(lines) - i
        bad += 1
    return kept, bad, 0


def _suffix(line: bytes) -> bytes | None:
    """The whole record that was joined to a broken one, if there is one."""
    start = line.find(_START, 1)
    while start > 0:
        if _record(line[start:]) is not None:
            return line[start:]
        start = line.find(_START, start + 1)
    return None


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "op_code" in found else None


def _stand_in(line: bytes) -> bytes:
    """A failed trial in place of one whose record is broken."""
    study = re.search(rb'"study_id":(\d+),', line)
    never = "1970-01-01T00:00:00+00:00"
    record = {
        "op_code": 4, "worker_id": "mended", "study_id": int(study[1]) if study else 0, "state": 3,
        "datetime_start": never, "datetime_complete": never, "value": None, "values": None,
        "distributions": {}, "params": {}, "user_attrs": {"result": {"cause": "its record is broken"}},
        "system_attrs": {}, "intermediate_values": {},
    }  # fmt: skip
    return json.dumps(record, separators=(",", ":")).encode()


def _keep(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
