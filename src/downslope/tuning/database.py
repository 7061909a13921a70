"""Databases as the place of a search: SQLite, PostgreSQL and MySQL by URL, through Optuna's storage for them.

Each trial costs some transactions (SQLite on a disk with an fsync of 2.4 ms: 0.2 s): they are for searches on
several machines, or whose trials train for long. On one machine the journal is the place.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Generator
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


def dispose(storage: Any) -> None:
    """Close the connections of one that `opened` gave."""
    backend = getattr(storage, "_backend", storage)
    with contextlib.suppress(Exception):
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
