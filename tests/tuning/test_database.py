"""Databases by URL: what cannot be used is told in one line, without the password."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy.exc

from downslope.core import space
from downslope.core.errors import StorageError
from downslope.tuning import database
from downslope.tuning.reading import read_trials
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials

SPACE = {"lr": space.log(1e-5, 1e-1)}


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "redis://localhost",
            "redis://localhost: must be a folder, a file, or the URL of a database: sqlite:///FILE",
        ),
        ("sqlite://", "sqlite:// is kept in memory and gone with this process: give a file, sqlite:///FILE"),
        ("sqlite:///:memory:", "is kept in memory"),
        ("postgresql://me:s3cret@h:nan/n", "h:nan/n: must be a folder, a file, or the URL of a database"),
        ("redis://h/?password=s3cret", "redis://h/?password=***: must be a folder"),
        ("://nothing", "must be a folder, a file, or the URL of a database"),
        ("sqlite:////proc/no/x.db", "sqlite:////proc/no/x.db cannot be used: unable to open"),
        ("mysql+nosuch://h/n", "needs a driver that is not installed"),
    ],
)
def test_a_wrong_url_is_one_clear_line(url: str, told: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown", "bare"),
    [
        ("postgresql://me:a/b:c@db/x", "postgresql://me:***@db/x", "postgresql://me@db/x"),
        ("mysql://db/x?user=me&password=a%2Ab&ssl=1", "mysql://db/x?password=***&ssl=1&user=me",
         "mysql://db/x?ssl=1&user=me"),
        ("postgres://me:a@db/x", "postgresql://me:***@db/x", "postgresql://me@db/x"),
        ("mariadb+pymysql://me@db/x", "mysql+pymysql://me@db/x", "mysql+pymysql://me@db/x"),
    ],
)  # fmt: skip
def test_a_password_is_hidden_wherever_it_stands(url: str, shown: str, bare: str) -> None:
    assert database.hidden(url) == shown
    assert database.hidden(url, "") == bare


@pytest.mark.parametrize(
    ("option_file", "variable", "found"),
    [
        ("[client]\nuser=you\npassword='a b'\n", "", "a b"),
        ("[client]\npassword=a\n", "b", "b"),
        ("[mysqld]\nskip-networking\n", "", None),
        ("no option file", "", None),
    ],
)
def test_mysql_s_password_is_found_where_its_own_client_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option_file: str, variable: str, found: str | None
) -> None:
    asked: list[Any] = []

    def refuse(url: str, engine_kwargs: Any) -> None:
        asked.append(engine_kwargs["connect_args"].get("password"))
        raise sqlalchemy.exc.OperationalError("statement", None, Exception(1045, "Access denied for user"))

    (tmp_path / ".my.cnf").write_text(option_file, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MYSQL_PWD", variable)
    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    told = "Access denied for user; no folder keeps a password: give it by MYSQL_PWD or ~/.my.cnf"
    with pytest.raises(StorageError, match=told):
        open_storage("mysql+pymysql://me@db/x")
    assert asked == [found]


def test_the_package_that_mysql_8_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, engine_kwargs: Any) -> None:
        raise RuntimeError("'cryptography' package is required for sha256_password auth methods")

    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(StorageError, match=r"pip install 'downslope\[mysql\]'"):
        open_storage("mysql+pymysql://me:a@db/x")


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_driver_that_is_missing_is_named_and_the_password_is_not(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StorageError, match=f"needs a driver: pip install 'downslope.{kind}.'") as caught:
        open_storage(f"{kind}://me:secret@db.example/search")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("installed", "dialect"),
    [({"psycopg2"}, "postgresql+psycopg2"), ({"psycopg"}, "postgresql+psycopg"),
     ({"psycopg", "psycopg2"}, "postgresql+psycopg2")],
)  # fmt: skip
def test_the_driver_that_is_installed_is_taken_and_a_server_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, installed: set[str], dialect: str
) -> None:
    asked: list[Any] = []

    def refuse(url: str, engine_kwargs: Any) -> None:
        asked.append((url, engine_kwargs))
        orig = OSError('connection to server at "db.example" failed: Connection refused\n\tIs it running?')
        raise sqlalchemy.exc.OperationalError("statement", None, orig)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(StorageError) as caught:
        open_storage("postgresql://me:secret@db.example/search")
    assert str(caught.value) == (
        'postgresql://me:***@db.example/search cannot be used: connection to server at "db.example" failed: '
        "Connection refused"
    )
    assert asked == [
        (f"{dialect}://me:secret@db.example/search",
         {"connect_args": {"connect_timeout": database.CONNECT, "client_encoding": "utf8"},
          "pool_pre_ping": True})
    ]  # fmt: skip


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("lr,loss\n" * 100, encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be used: file is not a database"):
        open_storage(f"sqlite:///{tmp_path}/x.db")


def test_a_database_that_is_locked_is_told_and_what_was_begun_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY", 0.1)
    with open_storage(f"sqlite:///{tmp_path}/x.db") as storage:
        trials = Trials(storage, SPACE, signature={})
        (first,) = trials.begin([{"lr": 0.01}])
        other = sqlite3.connect(tmp_path / "x.db")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="is locked by another program"):
            trials.begin([{"lr": 0.02}])
        other.rollback()
        other.close()
        assert trials.done(first, 0.5)
        assert [each.state for each in trials.all()] == ["done"]


def test_tables_of_another_version_of_optuna_are_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with open_storage(url):
        pass
    with sqlite3.connect(tmp_path / "x.db") as other:
        other.execute("UPDATE alembic_version SET version_num = 'v2.4.0.a'")
    other.close()
    with pytest.raises(StorageError, match="was made by another version of Optuna"):
        open_storage(url)


def test_plain_optuna_reads_the_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with open_storage(url) as storage:
        trials = Trials(storage, SPACE, signature={}, direction="maximize")
        a, b = trials.begin([{"lr": 0.01}, {"lr": 0.02}])
        trials.done(a, 0.5)
        trials.done(b, 0.75)
    plain = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name="tune", storage=plain)
    assert [(each.params["lr"], each.value) for each in study.trials] == [(0.01, 0.5), (0.02, 0.75)]
    assert study.best_trial.number == 1
    plain.remove_session()
    plain.engine.dispose()
    assert [each.value for each in read_trials(url, SPACE)] == [0.5, 0.75]
