"""The journal of a search: Optuna's own file of lines, with one lock and one fsync for a whole batch.

Optuna's backend locks, writes, syncs and reads again for each of the eight records of a trial (20 ms a trial
on a disk whose fsync takes 2.4 ms). This one buffers what is written within `Journal.batch` and appends it at
its end; what is read in between is the file and the buffer. The file stays Optuna's: its dashboard and plain
Optuna open it as a ``JournalFileBackend``.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import json
import os
from array import array
from collections.abc import Callable, Generator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from downslope.tuning.damage import cut_tail, mend_lines


class Lock(Protocol):
    """What keeps other writers out."""

    def acquire(self) -> None:
        """Take it."""

    def release(self) -> None:
        """Give it back."""


class Journal(BaseJournalBackend):
    """One file of JSON lines that only grows.

    Args:
        path: The file, absolute; made if it does not exist.
        lock: Keeps other writers out.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path, lock: Lock) -> None:
        self.path = path
        self.told: list[str] = []
        """What had to be mended, a line each."""
        self._lock = lock
        self._ends = array("q", [0])  # bytes up to the end of each line that has been read
        self._base = 0  # lines of the file when the batch began
        self._buffer: list[bytes] | None = None
        self._inode = 0
        self._mend(cut_tail)

    def mend_lines(self) -> None:
        """Mend broken lines in the middle.

        Raises:
            StorageError: it is no journal.
            OSError: it cannot be read or written.
        """
        self._mend(mend_lines)

    def _mend(self, how: Callable[[Path], str]) -> None:
        self._lock.acquire()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
            self.told += [said] if (said := how(self.path)) else []
            self._inode = self.path.stat().st_ino
            del self._ends[1:]
        finally:
            self._lock.release()

    @contextlib.contextmanager
    def batch(self) -> Generator[None]:
        """Hold the lock; what is appended within is written and synced at the end, at once.

        What was appended before something else failed within is written nevertheless: its numbers may have
        been handed out.

        Raises:
            StorageError: the lock is held by somebody all the time.
            OSError: the file is gone, another one by now, or cannot be written; then it is as it was.
        """
        self._lock.acquire()
        try:
            self._check()
            self._lines(len(self._ends) - 1)
            self._base, self._buffer = len(self._ends) - 1, []
            try:
                yield
            finally:
                lines, self._buffer = self._buffer, None
                if lines:
                    self._write(b"".join(lines))
        finally:
            self._lock.release()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records; outside of a batch they are one of their own."""
        if self._buffer is None:
            with self.batch():
                self.append_logs(logs)
            return
        self._buffer += [json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in logs]

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Records from a number on; a line that is still being written by somebody is not there yet."""
        if self._buffer is None:
            for line in self._lines(log_number_from):
                yield json.loads(line.decode())
            return
        if log_number_from < self._base:
            for line in self._lines(log_number_from):
                yield json.loads(line.decode())
        for line in list(self._buffer[max(0, log_number_from - self._base) :]):
            yield json.loads(line.decode())

    def _lines(self, start: int) -> list[bytes]:
        """Whole lines of the file from number `start` on."""
        known = len(self._ends) - 1
        first = min(start, known)
        with self.path.open("rb") as file:
            file.seek(self._ends[first])
            found = file.read().split(b"\n")
        found.pop()  # what follows the last end of a line is not there yet
        for line in found[known - first :]:
            self._ends.append(self._ends[-1] + len(line) + 1)
        return found[start - first :]

    def _check(self) -> None:
        found = self.path.stat()
        if found.st_ino != self._inode or found.st_size < self._ends[-1]:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self.path))

    def _write(self, data: bytes) -> None:
        """All of it or nothing; an interrupt waits until it is done."""
        interrupted: KeyboardInterrupt | None = None
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            start = os.fstat(file).st_size
            try:
                while (written := os.fstat(file).st_size - start) < len(data):
                    try:
                        os.write(file, data[written:])
                    except KeyboardInterrupt as error:
                        interrupted = error
                os.fsync(file)
            except OSError:
                os.ftruncate(file, start)
                raise
        finally:
            os.close(file)
        if interrupted is not None:
            raise interrupted


def opened(journal: Journal) -> JournalStorage:
    """Optuna's storage on a journal; broken lines in it are mended first.

    Raises:
        StorageError: it is no journal.
        OSError: it cannot be read or written.
    """
    try:
        return replayed(journal)
    except (ValueError, KeyError, TypeError):
        journal.mend_lines()
        return replayed(journal)


def replayed(backend: BaseJournalBackend) -> JournalStorage:
    """Optuna's storage, with what `backend` holds replayed: 10,000 trials in half a second.

    A distribution that stands in 10,000 lines is read once, and the collector of garbage rests, which finds
    nothing among objects that all live.
    """
    replaying: Any = importlib.import_module(JournalStorage.__module__)
    plain, collecting = replaying.json_to_distribution, gc.isenabled()
    gc.disable()
    replaying.json_to_distribution = lru_cache(maxsize=1024)(plain)
    try:
        return JournalStorage(backend)
    finally:
        replaying.json_to_distribution = plain
        if collecting:
            gc.enable()
