"""PostgreSQL and MySQL for real: a server of our own, two processes in one search, one of them killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from downslope.core.errors import StorageError
from downslope.tuning import database
from downslope.tuning.reading import read_trials
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials
from tests.tuning.servers import MariaDb, PostgreSql, Server, running
from tests.tuning.test_two_processes import begun_by_a_killed_process_is_trained_by_others
from tests.tuning.worker import SPACE


@pytest.fixture(
    scope="module",
    params=[
        PostgreSql,
        pytest.param(MariaDb, marks=pytest.mark.slow(reason="MariaDB takes six seconds to make its files")),
    ],
    ids=["postgresql", "mysql"],
)
def server(request: pytest.FixtureRequest) -> Generator[Server]:
    if lacking := request.param.missing():
        pytest.skip(lacking)
    with running(request.param) as made:
        yield made


def test_a_search_is_kept_to_the_last_bit_and_a_reader_takes_no_part(server: Server) -> None:
    with open_storage(server.url()) as storage:
        trials = Trials(storage, SPACE, signature={"problem": "none"}, name="bits")
        a, b = trials.begin([{"x": 0.1 + 0.2}, {"x": 1 / 3}])
        trials.done(a, 0.1 + 0.2, seconds=0.5, steps=3)
        trials.failed(b, "out of memory")
    found = read_trials(server.url(), SPACE, name="bits")
    assert [(each.values["x"], each.value, each.state) for each in found] == [
        (0.1 + 0.2, 0.1 + 0.2, "done"),
        (1 / 3, None, "failed"),
    ]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"password": "wrong"}, ("password authentication failed", "Access denied")),
        ({"database": "nosuch"}, ('database "nosuch" does not exist', "to database 'nosuch'")),
        ({"password": None}, ("give it by PGPASSWORD or ~/.pgpass", "give it by MYSQL_PWD or ~/.my.cnf")),
    ],
)
def test_who_may_not_in_is_told_why_in_one_line_without_the_password(
    server: Server, how: dict[str, str | None], told: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(StorageError) as caught:
        open_storage(server.url(**how))
    assert any(each in str(caught.value) for each in told)
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_password_that_no_url_holds_is_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD" if server.kind == "postgresql" else "MYSQL_PWD", "s3cret")
    with open_storage(server.url(password=None)) as storage:
        assert "s3cret" not in storage.place


def test_a_server_that_restarts_in_the_middle_loses_nothing(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with open_storage(server.url()) as storage:
        trials = Trials(storage, SPACE, signature={"problem": "none"}, name="restart")
        (first,) = trials.begin([{"x": 0.5}])
        server.stop()
        back = threading.Thread(target=server.start)
        back.start()
        assert trials.done(first, 0.25)
        back.join()
        assert [each.value for each in trials.all()] == [0.25]
    assert "s3cret" not in caplog.text


def test_a_server_that_does_not_come_back_is_told(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "OUTAGE", 0.2)
    with open_storage(server.url()) as storage:
        trials = Trials(storage, SPACE, signature={"problem": "none"}, name="away")
        server.stop()
        try:
            with pytest.raises(StorageError, match="cannot be used"):
                trials.begin([{"x": 0.5}])
        finally:
            server.start()
        (again,) = trials.begin([{"x": 0.5}])
        assert trials.done(again, 0.5)


def test_somebody_who_holds_the_lock_is_waited_for_and_then_told(server: Server) -> None:
    with open_storage(server.url()) as one, open_storage(server.url(), wait=0.2) as other, one.batch():
        began = time.monotonic()
        with (
            pytest.raises(StorageError, match=r"is locked by another worker for more than 0\.2 s"),
            other.batch(),
        ):
            pass
        assert time.monotonic() - began >= 0.2


@pytest.mark.slow(reason="three processes beside a server take ten seconds")
def test_what_a_killed_process_had_begun_is_trained_again_by_the_others(server: Server) -> None:
    begun_by_a_killed_process_is_trained_by_others(server.url(), 24)
