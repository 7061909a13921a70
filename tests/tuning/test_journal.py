"""The file of a search: full, taken away, interrupted, shared with plain Optuna."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from downslope.core.errors import StorageError
from downslope.tuning.reading import read_trials
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials
from tests.tuning.journals import SPACE, begun, plain, points


def told_and_seen(trials: Trials) -> None:
    with trials.batch():
        trials.done(trials.all()[1], 0.25)
        assert trials.all()[1].state == "done"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_on_a_full_disk_nothing_is_half_written_and_it_goes_on_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    real = os.write

    def full(file: int, data: bytes) -> int:
        if share and os.fstat(file).st_size == len(before):
            return real(file, data[: int(len(data) * share)])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with begun(tmp_path) as trials:
        path = tmp_path / "journal.log"
        before = path.read_bytes()
        monkeypatch.setattr("downslope.tuning.journal.os.write", full)
        with pytest.raises(StorageError, match=r"journal\.log cannot be written: No space left on device"):
            trials.begin(points(5))
        with pytest.raises(StorageError, match="No space left"):
            told_and_seen(trials)
        assert path.read_bytes() == before
        assert [each.state for each in trials.all()] == ["done", "running", "running"]
        monkeypatch.undo()
        assert trials.done(trials.all()[1], 0.25)
        assert [each.number for each in trials.begin(points(1))] == [3]
        assert [each.state.name for each in plain(tmp_path).trials] == [
            "COMPLETE",
            "COMPLETE",
            "RUNNING",
            "RUNNING",
        ]


def test_a_file_that_the_system_lets_grow_no_further_is_as_it_was(tmp_path: Path) -> None:
    with begun(tmp_path) as trials:
        before = (tmp_path / "journal.log").read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (len(before) + 100, limits[1])
        )  # the kernel writes 100 bytes
        try:
            with pytest.raises(StorageError, match="cannot be written: File too large"):
                trials.begin(points(5))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert (tmp_path / "journal.log").read_bytes() == before
        assert len(trials.all()) == 3


def test_a_place_that_cannot_be_written_is_told_before_anything_trains(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be used: Not a directory"):
        open_storage(tmp_path / "file" / "below")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_journal_that_is_taken_away_is_told(tmp_path: Path, how: str) -> None:
    path = tmp_path / "journal.log"
    with begun(tmp_path) as trials:
        data = path.read_bytes()
        path.unlink()
        if how == "replaced":
            (tmp_path / "other").write_bytes(data)
            (tmp_path / "other").rename(path)
        with pytest.raises(StorageError, match="is gone" if how == "removed" else "was replaced"):
            trials.begin(points(1))
        assert path.exists() == (how == "replaced")


def test_an_interrupt_within_a_write_waits_until_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.write, list[int]()

    def interrupted(file: int, data: bytes) -> int:
        calls.append(len(data))
        written = real(file, data[:50] if len(calls) == 1 else data)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return written

    with begun(tmp_path) as trials:
        monkeypatch.setattr("downslope.tuning.journal.os.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trials.begin(points(2))
        monkeypatch.undo()
        assert len(trials.all()) == len(plain(tmp_path).trials) == 5


def test_plain_optuna_and_we_write_one_file_in_turn(tmp_path: Path) -> None:
    with begun(tmp_path) as trials:
        study = plain(tmp_path)
        mine = study.trials[0]
        assert (mine.value, mine.params) == (0.5, {"lr": 1e-4, "optimizer": "adam"})
        assert mine.user_attrs["result"] == {"seconds": 1.0}
        assert mine.distributions["lr"] == optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True)
        asked = study.ask(dict(mine.distributions))
        study.tell(asked, 0.125)
        trials.done(trials.begin(points(1))[0], 0.75)
        found = trials.all()
        assert [each.value for each in found] == [0.5, None, None, 0.125, 0.75]
        assert found[3].values == asked.params
        assert [each.value for each in study.trials] == [0.5, None, None, 0.125, 0.75]
        assert study.best_trial.number == 3


def test_a_trial_that_plain_optuna_runs_is_never_taken_for_lost(tmp_path: Path) -> None:
    with begun(tmp_path) as trials:
        plain(tmp_path).ask()
        assert trials.reap() == []
        assert trials.all()[3].state == "running"


def test_reading_takes_no_part(tmp_path: Path) -> None:
    with begun(tmp_path):
        pass
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert [each.state for each in read_trials(tmp_path, SPACE)] == ["done", "running", "running"]
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    with pytest.raises(StorageError, match="no search is kept there"):
        read_trials(tmp_path / "other", SPACE)
    with pytest.raises(StorageError, match="holds no search 'race'"):
        read_trials(tmp_path, SPACE, name="race")


def test_a_batch_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = list[int]()
    real = os.fsync
    with begun(tmp_path) as trials:
        monkeypatch.setattr(
            "downslope.tuning.journal.os.fsync", lambda file: synced.append(file) or real(file)
        )
        batch = trials.begin(points(32))
        with trials.batch():
            for each in batch:
                trials.done(each, 0.5, seconds=1.0)
        assert len(synced) == 2
    lines = (tmp_path / "journal.log").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(each) for each in lines)


def test_the_dashboard_of_optuna_shows_the_search(tmp_path: Path) -> None:
    dashboard = pytest.importorskip("optuna_dashboard", reason="the extra 'dashboard' is not installed")
    with begun(tmp_path):
        pass
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    told: list[str] = []
    asked: dict[str, Any] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(asked)
    app = dashboard.wsgi(optuna.storages.JournalStorage(backend))
    body = app(asked, lambda status, headers, error=None: told.append(status))
    assert told == ["200 OK"]
    assert json.loads(b"".join(body))["study_summaries"][0]["study_name"] == "tune"
