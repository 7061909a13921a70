"""Databases as the place of a search: SQLite, PostgreSQL and MySQL by URL, through Optuna's storage for them.

Each trial costs some transactions (SQLite on a disk with an fsync of 2.4 ms: 0.2 s): they are for searches on
several machines, or whose trials train for long. On one machine the journal is the place.
"""

from __future__ import annotations

import configparser
import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.core.errors import StorageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import URL

_log = logging.getLogger("downslope")

CONNECT = 10
"""Seconds to wait for a server."""

BUSY = 30
"""Seconds to wait for an SQLite file that another process writes."""

OUTAGE = 60.0
"""Seconds that a server may be away in the middle of a search: what was trained meanwhile is not lost."""

_DRIVERS = {
    "postgresql": (("psycopg2", "psycopg2"), ("psycopg", "psycopg")),
    "mysql": (("MySQLdb", "mysqldb"), ("pymysql", "pymysql")),
}
"""By kind: modules and what SQLAlchemy calls them, the one that it would take by itself first."""

_LOCKS = {
    "postgresql": ("SELECT pg_try_advisory_lock(1684632435)", "SELECT pg_advisory_unlock(1684632435)"),
    "mysql": (
        "SELECT GET_LOCK(CONCAT('downslope ', MD5(DATABASE())), 0)",
        "SELECT RELEASE_LOCK(CONCAT('downslope ', MD5(DATABASE())))",
    ),
}
"""By kind: how to take the lock of a database, which says whether it was free, and how to give it back."""

_SAME = {"postgres": "postgresql", "mariadb": "mysql"}
"""Other names of a kind."""

_ELSEWHERE = {"postgresql": "PGPASSWORD or ~/.pgpass", "mysql": "MYSQL_PWD or ~/.my.cnf"}
"""By kind: where a password is found that no URL and no folder holds."""

_PATIENT = ("psycopg2", "psycopg", "mysqldb", "pymysql")
"""Drivers that take ``connect_timeout``."""


def opened(url: str) -> tuple[BaseStorage, str]:
    """Optuna's storage at a URL, and the URL as it may be shown: without its password.

    Args:
        url: ``sqlite:///FILE``, ``postgresql://USER:PASSWORD@HOST/NAME`` or ``mysql://...``; a driver may be
            named as SQLAlchemy does (``postgresql+psycopg://``). Without a password the driver looks for it
            in PGPASSWORD and ~/.pgpass; for MySQL it is that of MYSQL_PWD, or of ~/.my.cnf.

    Raises:
        StorageError: no such kind of database, its driver is not installed, it does not answer, or its tables
            are of another version of Optuna.
    """
    from optuna.storages import RDBStorage, get_storage

    parsed = _parsed(url)
    shown = hidden(url)
    kind, driver = parsed.get_backend_name(), parsed.drivername.partition("+")[2]
    if kind not in ("sqlite", *_DRIVERS):
        raise _no_url(shown)
    if kind == "sqlite" and sqlite_file(url) is None:
        raise StorageError(
            f"{shown} is kept in memory and gone with this process: give a file, sqlite:///FILE"
        )
    if not driver and kind in _DRIVERS:
        parsed = parsed.set(drivername=f"{kind}+{_driver(kind, shown)}")
    with telling(shown):
        made = RDBStorage(
            parsed.render_as_string(hide_password=False),
            engine_kwargs={"connect_args": _arguments(parsed, kind), "pool_pre_ping": kind != "sqlite"},
        )
        return get_storage(made), shown


def hidden(url: str, instead: str = "***") -> str:
    """A URL without its password, wherever in it that stands.

    Args:
        url: As `opened` takes it.
        instead: What stands in the place of the password; "" leaves no place either, so that the driver looks
            for it elsewhere.

    Raises:
        StorageError: it is no URL of a database.
    """
    parsed = _parsed(url)
    told = [key for key in parsed.query if any(word in key.lower() for word in ("pass", "pwd", "secret"))]
    parsed = parsed.difference_update_query(told)
    parsed = parsed._replace(password=instead if instead and parsed.password is not None else None)
    if instead:
        parsed = parsed.update_query_dict(dict.fromkeys(told, instead))
    return parsed.render_as_string(hide_password=False).replace("%2A", "*")


def _parsed(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number, too
        raise _no_url(url.rsplit("@", 1)[-1]) from None
    kind, plus, driver = parsed.drivername.partition("+")
    return parsed.set(drivername=_SAME[kind] + plus + driver) if kind in _SAME else parsed


def _arguments(url: URL, kind: str) -> dict[str, Any]:
    """What the driver is told besides: how long to wait, and a password that is not in the URL."""
    if kind == "sqlite":
        return {"timeout": BUSY}
    driver = url.drivername.partition("+")[2]
    found: dict[str, Any] = {"connect_timeout": CONNECT} if driver in _PATIENT else {}
    if kind == "postgresql" and driver in _PATIENT:  # a database without an encoding gives bytes otherwise
        found["client_encoding"] = "utf8"
    if kind == "mysql" and url.password is None and (password := _mysql_password()):
        found["password"] = password
    return found


def _mysql_password() -> str:
    """That of MYSQL_PWD, or of MySQL's own option file, which Python's drivers do not read by themselves."""
    options = configparser.ConfigParser(allow_no_value=True, strict=False, interpolation=None)
    with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
        options.read(Path("~/.my.cnf").expanduser(), encoding="utf-8")
    kept = options.get("client", "password", fallback="") or ""
    return os.environ.get("MYSQL_PWD") or kept.strip().strip("'\"")


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
    except RuntimeError as error:
        if "package is required" in str(error):  # PyMySQL, for how MySQL 8 asks for a password
            raise StorageError(
                f"{shown} cannot be used: {_first(error)}: pip install 'downslope[mysql]'"
            ) from error
        if "table schema" not in str(error):  # what Optuna raises for tables of another version
            raise
        raise StorageError(
            f"{shown} was made by another version of Optuna: `optuna storage upgrade --storage URL` brings "
            "it up to date"
        ) from error


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database, absolute; None of another database, or of one in memory."""
    parsed = _parsed(url)
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
    with _connected(engine, shown) as connection:
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


def _connected(engine: Any, shown: str) -> Any:
    """A connection; a server that restarts is waited for."""
    from sqlalchemy.exc import DBAPIError

    end, told = time.monotonic() + OUTAGE, False
    while True:
        try:
            return engine.connect()
        except DBAPIError as error:
            if time.monotonic() > end:
                raise
            if not told:
                _log.warning("%s; waiting for it, at most %g s", _reason(shown, error), OUTAGE)
            told = True
            time.sleep(0.5)


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
    return f"{shown} cannot be used: {text}{_without(shown, text)}"


def _without(shown: str, text: str) -> str:
    """Where a password that is missing belongs: folders keep none."""
    kind = shown.partition(":")[0].partition("+")[0]
    refused = "password" in text.lower() or "access denied" in text.lower()
    if kind not in _ELSEWHERE or "***" in shown or not refused:
        return ""
    return f"; no folder keeps a password: give it by {_ELSEWHERE[kind]}"


def _first(error: BaseException) -> str:
    """The first line of what it says; drivers of MySQL raise a number and a text."""
    said = error.args[1] if len(error.args) == 2 and isinstance(error.args[0], int) else error
    return (str(said).strip().splitlines() or [type(error).__name__])[0]


def _no_url(shown: str) -> StorageError:
    return StorageError(
        f"{shown}: must be a folder, a file, or the URL of a database: sqlite:///FILE, "
        "postgresql://USER:PASSWORD@HOST/NAME or mysql://USER:PASSWORD@HOST/NAME"
    )
