"""Whether the worker that began a trial still lives.

A worker is a process that writes to the storage. Its sign of life is a file of its name beside the journal,
locked while it lives and touched every ten seconds. On the same machine the lock tells at once (the system
takes it back at death); from another one the age of the file, against the age of a file touched just now on
that disk: no clock of a machine is compared with that of another. In a database the sign is a counter that
the worker raises; it is dead when the counter has stood still for a minute of the reader's own clock.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from downslope.core.lock import held, hold

BEAT = 10.0
"""Seconds between two signs of life."""

LEASE = 60.0
"""Seconds without a sign after which a worker of another machine counts as dead."""


def machine() -> str:
    """Names the running system: two processes of one name share a kernel and see one another's numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
        space = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
    except OSError:  # not Linux
        boot, space = "", ""
    return "~".join(each for each in (socket.gethostname().replace("/", "_"), boot, space) if each)


def new_worker() -> str:
    """A name that no other worker has: machine, process, when it started, and a random part."""
    return f"{machine()}.{os.getpid()}.{_started(os.getpid())}.{secrets.token_hex(4)}"


def said(worker: str) -> str:
    """A worker's name as a person reads it: "process 4242 on lynx"."""
    parts = worker.rsplit(".", 3)
    return f"process {parts[1]} on {parts[0].split('~')[0]}" if len(parts) == 4 else worker


class Alone:
    """The life of a search that is kept in memory: nobody else sees it, nobody else is in it."""

    def __init__(self) -> None:
        self.worker = new_worker()

    def mark(self, worker: str) -> float:
        """What a sign of life changes: nothing."""
        del worker
        return math.nan

    def dead(self, worker: str) -> bool:
        """Never: there is nobody else."""
        del worker
        return False

    def close(self) -> None:
        """Nothing to give back."""


class Signs:
    """Signs of life as files in a folder.

    Args:
        folder: Where they lie, on the disk of the journal.

    Raises:
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self.worker = new_worker()
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._sweep()
        self.sign = folder / self.worker
        self._file = self.sign.open("w", encoding="utf-8")
        hold(self._file)
        self._beat = _Beat(self._touch)

    def dead(self, worker: str) -> bool:
        """Whether `worker` is known to be dead; False while that cannot be told."""
        if worker == self.worker:
            return False
        sign = self._folder / worker
        if here(worker):
            return not held(sign) or _gone(worker)
        try:
            seen = sign.stat().st_mtime
            self._touch()
            return self.sign.stat().st_mtime - seen > LEASE
        except FileNotFoundError:
            return self.sign.exists()  # taken down at its end; with ours gone too, the folder itself is

    def mark(self, worker: str) -> float:
        """What the next sign of life of a worker of another machine changes; nan of one of this machine."""
        try:
            return math.nan if here(worker) else (self._folder / worker).stat().st_mtime
        except OSError:
            return math.nan

    def close(self) -> None:
        """Take the sign down: who closes is done."""
        self._beat.stop()
        self._file.close()
        with contextlib.suppress(OSError):
            self.sign.unlink()
            self._folder.rmdir()  # the last one; else it holds other signs and stays

    def _touch(self) -> None:
        os.utime(self.sign)

    def _sweep(self) -> None:
        """Remove the signs of processes of this machine that are gone: no sign says the same."""
        for each in self._folder.iterdir():
            if here(each.name) and _gone(each.name):
                each.unlink(missing_ok=True)


class Counters:
    """Signs of life as counters in a database.

    Args:
        read: What is kept under a key, None if nothing.
        write: Keeps a number under a key.
    """

    def __init__(self, read: Callable[[str], int | None], write: Callable[[str, int], None]) -> None:
        self.worker = new_worker()
        self._read, self._write = read, write
        self._count = 0
        self._seen: dict[str, tuple[int | None, float]] = {}
        self._touch()
        self._beat = _Beat(self._touch)

    def dead(self, worker: str) -> bool:
        """Whether `worker` is known to be dead; of another machine that takes a minute to find out."""
        if worker == self.worker:
            return False
        if here(worker):
            return _gone(worker)
        count, now = self._read(_key(worker)), time.monotonic()
        if count == -1:
            return True
        known = self._seen.get(worker)
        if known is None or known[0] != count:
            self._seen[worker] = (count, now)
            return False
        return now - known[1] > LEASE

    def mark(self, worker: str) -> float:
        """What the next sign of life of a worker of another machine changes; nan of one of this machine."""
        return math.nan if here(worker) else float(self._read(_key(worker)) or 0)

    def close(self) -> None:
        """Say that this worker is done."""
        self._beat.stop()
        with contextlib.suppress(Exception):
            self._write(_key(self.worker), -1)

    def _touch(self) -> None:
        self._count += 1
        self._write(_key(self.worker), self._count)


Life = Alone | Signs | Counters


class _Beat:
    """Calls something every ten seconds until it is stopped; what fails is tried again."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="downslope-life", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()

    def _run(self) -> None:
        while not self._end.wait(BEAT):
            with contextlib.suppress(Exception):
                self._action()


def here(worker: str) -> bool:
    """Whether a worker is, or was, a process of this machine."""
    return worker.rsplit(".", 3)[0] == machine()


def _gone(worker: str) -> bool:
    number, started = worker.rsplit(".", 3)[1:3]
    return _started(int(number)) != started


def _started(number: int) -> str:
    """When a process started, in the system's ticks; "" where there is no such process or no telling."""
    try:
        line = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return "gone"
        except OSError:
            return ""
        return ""
    fields = line.rpartition(")")[2].split()
    return "gone" if fields[0] in "ZX" else fields[19]


def _key(worker: str) -> str:
    return f"life/{worker}"
