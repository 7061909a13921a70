"""Where searches are kept: a journal in a folder, a database by URL, or memory."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from downslope.core.errors import StorageError
from downslope.tuning.damage import check_kind
from downslope.tuning.life import Alone, Counters, Life, Signs

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from downslope.tuning.journal import Journal

_log = logging.getLogger("downslope")

NAME = "journal.log"
"""The journal in the folder of a search."""

_DELETED = "Record does not exist"
"""How Optuna says that a study is not there any more."""

WAIT = 30.0
"""Seconds to wait for somebody who writes."""


class Storage:
    """An open place; `open_storage` makes it.

    Attributes:
        place: What to open again; without a password.
        path: The journal's file; None of a database and of memory.
        generation: How often what was read of it had to be forgotten.
    """

    def __init__(
        self,
        place: str,
        make: Callable[[], BaseStorage],
        hold: Callable[[], AbstractContextManager[None]],
        *,
        path: Path | None = None,
        life: Life | None = None,
    ) -> None:
        self.place, self.path = place, path
        self.generation = 0
        self._make, self._hold, self._life = make, hold, life
        self._made: BaseStorage | None = None
        self._lives: dict[int, Life] = {}
        self._turn = threading.RLock()
        if life is not None:
            weakref.finalize(self, life.close)  # of one that nobody closed and nobody has any more
        self._depth = 0

    @property
    def optuna(self) -> BaseStorage:
        """Optuna's own storage of this place, for its samplers and studies."""
        if self._made is None:
            with self.telling():
                self._made = self._make()
        return self._made

    @contextlib.contextmanager
    def batch(self) -> Generator[None]:
        """Keep other writers out; what is recorded within is on the disk when it ends, in one write.

        Raises:
            StorageError: it is locked, gone, full or damaged. What was recorded within is then not kept.
        """
        with self._turn:
            if self._depth:
                yield
                return
            _ = self.optuna
            self._depth += 1
            try:
                with self.telling(), self._hold():
                    yield
            finally:
                self._depth -= 1

    def life(self, study: int) -> Life:
        """The sign of life of this process, for one study."""
        if self._life is not None:
            return self._life
        if study not in self._lives:
            with self.telling():
                self._lives[study] = _counters(self.optuna, study)
        return self._lives[study]

    def close(self) -> None:
        """Say that this process is done with it; trials that it has begun and not ended are then lost."""
        for each in (self._life, *self._lives.values()):
            if each is not None:
                each.close()
        if self._made is not None and self.path is None:
            from downslope.tuning.database import dispose

            dispose(self._made)

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def telling(self) -> Generator[None]:
        """What goes wrong within, with a file or a database, as one line.

        Raises:
            StorageError: something did.
        """
        try:
            with contextlib.ExitStack() as stack:
                if "://" in self.place:
                    from downslope.tuning.database import telling

                    stack.enter_context(telling(self.place))
                yield
        except OSError as error:
            self._forget()
            raise _unwritable(self.place, error) from error
        except KeyError as error:
            if _DELETED not in str(error):
                raise
            raise StorageError(
                f"{self.place}: the search was deleted there by another program while it was going on; give "
                "another folder or storage"
            ) from error
        except json.JSONDecodeError as error:
            self._forget()
            raise StorageError(
                f"{self.place} was damaged by another program while the search was using it; `downslope "
                "resume` mends what can be mended"
            ) from error

    def _forget(self) -> None:
        """Read a journal anew: what was replayed in memory may not be on the disk."""
        if self.path is not None:
            self._made = None
            self.generation += 1


def open_storage(place: str | Path | None, *, wait: float = WAIT) -> Storage:
    """Open a place for searches, and make it if there is none.

    Args:
        place: A folder (the journal is its ``journal.log``), a file (the journal itself), a URL
            (``sqlite:///FILE``, ``postgresql://...``, ``mysql://...``), or None for memory.
        wait: Seconds to wait for somebody who writes, in (0, inf).

    Raises:
        StorageError: it is locked, cannot be written, is no journal, or no such database answers.
    """
    if place is None:
        return _memory()
    if "://" in str(place):
        return _database(str(place), wait)
    return _journal(_path(place), wait)


def look(place: str | Path) -> Storage:
    """Open a place to read it only: nothing is made, mended, locked or written.

    Raises:
        StorageError: there is none.
    """
    if "://" in str(place):
        return open_storage(place)
    path = _path(place)

    def make() -> BaseStorage:
        from optuna.storages.journal import JournalFileBackend

        from downslope.tuning.journal import replayed

        if not path.is_file():
            raise StorageError(f"{path}: no search is kept there; give its folder, file or URL")
        return replayed(JournalFileBackend(str(path)))

    return Storage(str(path), make, contextlib.nullcontext, path=path, life=Alone())


def _memory() -> Storage:
    def make() -> BaseStorage:
        from optuna.storages import InMemoryStorage

        return InMemoryStorage()

    return Storage("memory", make, contextlib.nullcontext, life=Alone())


def _path(place: str | Path) -> Path:
    """The journal at a place; absolute, since a lock that is a relative link leads nowhere."""
    path = Path(place).expanduser().absolute()
    return path if path.is_file() or path.suffix in (".log", ".journal", ".jsonl") else path / NAME


def _database(url: str, wait: float) -> Storage:
    from downslope.tuning import database
    from downslope.tuning.guard import Guard

    file = database.sqlite_file(url)
    if file is not None:
        with contextlib.suppress(OSError):  # the database itself says what it cannot do
            file.parent.mkdir(parents=True, exist_ok=True)
    made, shown = database.opened(url)
    if file is None:
        storage = Storage(shown, lambda: made, lambda: database.alone(made, shown, wait))
    else:  # on the disk of whoever uses it: signs and lock as of a journal
        life = _signs(file)
        guard = Guard(file, life.sign, life.dead, wait)
        storage = Storage(shown, lambda: made, guard.held, life=life)
    _ = storage.optuna
    return storage


def _signs(path: Path) -> Signs:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Signs(path.with_name(path.name + ".life"))
    except OSError as error:
        raise _unusable(str(path), error) from error


def _journal(path: Path, wait: float) -> Storage:
    try:
        check_kind(path)
    except OSError as error:
        raise _unusable(str(path), error) from error
    life = _signs(path)
    kept: list[Journal] = []

    def make() -> BaseStorage:
        from downslope.tuning.guard import Guard
        from downslope.tuning.journal import Journal, opened

        journal = Journal(path, Guard(path, life.sign, life.dead, wait))
        made = opened(journal)
        for each in journal.told:
            _log.warning("%s", each)
        kept[:] = [journal]
        return made

    def hold() -> AbstractContextManager[None]:
        return kept[0].batch()

    storage = Storage(str(path), make, hold, path=path, life=life)
    try:
        _ = storage.optuna
    except StorageError:
        life.close()
        raise
    return storage


def _counters(storage: BaseStorage, study: int) -> Counters:
    def read(key: str) -> int | None:
        return cast("int | None", storage.get_study_user_attrs(study).get(key))

    return Counters(read, lambda key, count: storage.set_study_user_attr(study, key, count))


def _unusable(place: str, error: OSError) -> StorageError:
    """Of a place that nobody has used yet here."""
    return StorageError(f"{place} cannot be used: {error.strerror or error}; give another folder or storage")


def _unwritable(place: str, error: OSError) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return StorageError(
            f"{place} is gone: it was removed while the search was using it, with what it held; begin again"
        )
    if error.errno == errno.ESTALE:
        return StorageError(
            f"{place} was replaced or cut by another program while the search was using it; `downslope "
            "resume` goes on with what it holds now"
        )
    reason = error.strerror or str(error)
    return StorageError(
        f"{place} cannot be written: {reason}; what is in it is kept: make room or give another folder, then "
        "`downslope resume`"
    )
