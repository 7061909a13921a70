"""The lock on a journal: held for one write, never lost to a dead holder, kept by Optuna's own programs too.

Two locks, one within the other. The outer is ``flock`` on ``JOURNAL.flock``, which the system takes back
when its holder dies. The inner is the one that Optuna itself respects: ``JOURNAL.lock``, a symbolic link that
exists while somebody writes. Ours points to the holder's sign of life, so that a link left by a dead worker
is told from one in use, and Optuna, which looks at the age of what the link points to, never breaks that of a
living worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

from downslope.core.errors import StorageError
from downslope.tuning.life import BEAT, LEASE, here, said

try:
    import fcntl
except ImportError:  # a system without them has the inner lock alone
    fcntl = None

GRACE = 30.0
"""Seconds after which Optuna takes a lock whose target is not touched; we do as it does."""

ELSEWHERE = LEASE + 2 * BEAT
"""Seconds more for a holder of another machine: only then is it known to be dead, and its link taken."""

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Guard:
    """One writer at a time.

    Args:
        path: The journal, absolute: a link to a relative path leads nowhere, and Optuna then waits for ever.
        sign: File whose age says how long ago its holder lived; what the link points to.
        dead: Whether a worker, by the name of its sign, is known to be dead.
        wait: Seconds to wait for it, in (0, inf).
    """

    def __init__(self, path: Path, sign: Path, dead: Callable[[str], bool], wait: float) -> None:
        self._path, self._sign, self._dead, self._wait = path, sign, dead, wait
        self._outer = path.with_name(path.name + ".flock")
        self._link = path.with_name(path.name + ".lock")
        self._file: int | None = None
        self._plain = False

    def acquire(self) -> None:
        """Take it.

        Raises:
            StorageError: somebody holds it all the time, who is named.
            OSError: the disk does not let us.
        """
        end = time.monotonic() + self._wait
        self._file = os.open(self._outer, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._take_outer(end)
            self._take_inner(end)
        except BaseException:
            self._let_go()
            raise

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """A block in which nobody else has it."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Give it back; a link that is no longer ours is left."""
        try:
            if self._plain or self._points_to() == self._sign:
                self._link.unlink()
        except FileNotFoundError:
            pass
        finally:
            self._plain = False
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take_outer(self, end: float) -> None:
        if fcntl is None or self._file is None:
            return
        pause = 0.0005
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._rest(pause, end)
                pause = min(2 * pause, 0.02)
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    return
                raise
            else:
                return

    def _take_inner(self, end: float) -> None:
        pause, seen = 0.0005, None
        began = since = time.monotonic()
        while True:
            try:
                self._make()
            except FileExistsError:
                age = _touched(self._link)
                if age != seen:
                    seen, since = age, time.monotonic()
                ours = self._is_ours()
                if self._left_behind() if ours else age is not None and time.monotonic() - since > GRACE:
                    self._break()
                    continue
                self._rest(pause, end if ours else max(end, began + GRACE + 1))
                pause = min(2 * pause, 0.05)
            else:
                return

    def _make(self) -> None:
        try:
            self._link.symlink_to(self._sign)
        except FileExistsError:
            raise
        except OSError:  # a disk or a system without links: the form of Optuna's JournalFileOpenLock
            os.close(os.open(self._link, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            self._plain = True

    def _is_ours(self) -> bool:
        target = self._points_to()
        return target is not None and target.parent == self._sign.parent

    def _left_behind(self) -> bool:
        """Whether the link is that of a worker known to be dead, or our own of an interrupt."""
        target = self._points_to()
        return target is not None and (target == self._sign or self._dead(target.name))

    def _break(self) -> None:
        aside = self._link.with_name(f"{self._link.name}.{os.getpid()}")
        try:
            self._link.rename(aside)
            aside.unlink()
        except FileNotFoundError:
            return

    def _points_to(self) -> Path | None:
        try:
            return self._link.readlink()
        except OSError:  # none there, or the form without a link
            return None

    def _rest(self, pause: float, end: float) -> None:
        limit = end + (ELSEWHERE if self._is_elsewhere() else 0.0)
        if time.monotonic() > limit:
            lasted = self._wait + limit - end
            raise StorageError(
                f"{self._path} is locked by {self._holder()} for more than {lasted:g} s: wait until it "
                "is done, or end it"
            )
        time.sleep(pause)

    def _is_elsewhere(self) -> bool:
        target = self._points_to()
        return target is not None and target.parent == self._sign.parent and not here(target.name)

    def _holder(self) -> str:
        target = self._points_to()
        if target is None:
            return "another program"
        return said(target.name) if target.parent == self._sign.parent else "a program that uses Optuna"


def _touched(link: Path) -> float | None:
    try:
        return link.stat().st_mtime
    except OSError:
        try:
            return link.lstat().st_mtime
        except OSError:
            return None
