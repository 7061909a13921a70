"""Databases as the place of a search: SQLite, PostgreSQL and MySQL by URL, through Optuna's storage for them.

Each trial costs some transactions (SQLite on a disk with an fsync of 2.4 ms: 0.2 s): they are for searches on
several machines, or whose trials train for long. On one machine the journal is the place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.core.errors import StorageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT = 10
"""Seconds to wait for a server."""

BUSY = 30
"""Seconds to wait for an SQLite file that another process writes."""

_DRIVERS = {
    "postgresql": (("psycopg2", "psycopg2"), ("psycopg", "psycopg")),
    "mysql": (("MySQLdb", "mysqldb"), ("pymysql", "pymysql")),
}
"""By kind: modules and what SQLAlchemy calls them, the one that it would take by itself first."""

_LOCKS = {
    "postgresql": ("SELECT pg_try_advisory_lock(1684632435)", "SELECT pg_advisory_unlock(1684632435)"),
    "mysql": ("SELECT GET_LOCK('downslope', 0)", "SELECT RELEASE_LOCK('downslope')"),
}
"""By kind: how to take the lock, which says whether it was free, and how to give it back."""

_PATIENT = ("psycopg2", "psycopg", "mysqldb", "pymysql")
"""Drivers that take ``connect_timeout``."""


def opened(url: str) -> tuple[BaseStorage, str]:
    """Optuna's storage at a URL, and the URL as it may be shown: without its password.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://USER:PASSWORD@HOST/NAME`` or ``mysql://...``; a driver may be
            named as SQLAlchemy does (``postgresql+psycopg://``).

    Raises:
        StorageError: no such kind of database, its driver is not installed, it does not answer, or its tables
            are of another version of Optuna.
    """
    from optuna.storages import RDBStorage, get_storage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        raise _no_url(url.rsplit("@", 1)[-1]) from None
    shown = parsed.render_as_string(hide_password=True)
    kind, _, driver = parsed.drivername.partition("+")
    if kind not in ("sqlite", *_DRIVERS):
        raise _no_url(shown)
    if not driver and kind in _DRIVERS:
        parsed = parsed.set(drivername=f"{kind}+{_driver(kind, shown)}")
    waits = {"timeout": BUSY} if kind == "sqlite" else {"connect_timeout": CONNECT}
    if kind != "sqlite" and parsed.get_driver_name() not in _PATIENT:
        waits = {}
    with telling(shown):
        made = RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": waits, "pool_pre_ping": kind != "sqlite"},
        )
        return get_storage(made), shown


@contextlib.contextmanager
def telling(shown: str) -> Generator[None]:
    """Errors of a database as one line.

    Raises:
        StorageError: one was raised within.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ImportError, NoSuchModuleError) as error:
        raise StorageError(f"{shown} needs a driver that is not installed: {_first(error)}") from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StorageError(_reason(shown, error)) from error
    except RuntimeError as error:  # what Optuna raises for tables of another version
        if "table schema" not in str(error):
            raise
        raise StorageError(
            f"{shown} was made by another version of Optuna: `optuna storage upgrade --storage URL` brings "
            "it up to date"
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, absolute; None of another database, or of one in memory."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or ":" in parsed.database[:6]:
        return None
    return Path(parsed.database).absolute()


@contextlib.contextmanager
def alone(storage: BaseStorage, shown: str, wait: float) -> Generator[None]:
    """Keep other workers out of a server's database: a lock that it takes back when its holder is gone.

    Raises:
        StorageError: somebody holds it all the time.
    """
    engine = _backend(storage).engine
    if engine.dialect.name not in _LOCKS:
        yield
        return
    take, give = _LOCKS[engine.dialect.name]
    with engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        end, pause = time.monotonic() + wait, 0.001
        while not connection.exec_driver_sql(take).scalar():
            if time.monotonic() > end:
                raise StorageError(
                    f"{shown} is locked by another worker for more than {wait:g} s: wait until it is "
                    "done, or end it"
                )
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        try:
            yield
        finally:
            connection.exec_driver_sql(give)


def _backend(storage: Any) -> Any:
    """Optuna's storage itself, which `get_storage` wraps in a cache."""
    return getattr(storage, "_backend", storage)


def dispose(storage: Any) -> None:
    """Close the connections of one that `opened` gave."""
    with contextlib.suppress(Exception):
        backend = _backend(storage)
        backend.remove_session()
        backend.engine.dispose()


def _driver(kind: str, shown: str) -> str:
    for module, name in _DRIVERS[kind]:
        if importlib.util.find_spec(module) is not None:
            return name
    raise StorageError(f"{shown} needs a driver: pip install 'downslope[{kind}]'")


def _reason(shown: str, error: Exception) -> str:
    cause: Any = error
    while getattr(cause, "orig", None) is None and cause.__cause__ is not None:
        cause = cause.__cause__
    text = _first(getattr(cause, "orig", None) or cause)
    if "locked" in text:
        return (
            f"{shown} is locked by another program for more than {BUSY} s: wait until it is done, or end it"
        )
    return f"{shown} cannot be used: {text}"


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _no_url(shown: str) -> StorageError:
    return StorageError(
        f"{shown}: must be a folder, a file, or the URL of a database: sqlite:///FILE, "
        "postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME"
    )
