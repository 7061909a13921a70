"""The file of a search: torn, broken, full, taken away, locked, and shared with plain Optuna."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import pytest

from downslope.core import space
from downslope.core.errors import StorageError
from downslope.tuning import guard
from downslope.tuning.journal import Journal, opened
from downslope.tuning.life import Signs
from downslope.tuning.reading import read_trials
from downslope.tuning.storage import Storage, open_storage
from downslope.tuning.trials import Trials

SPACE = {"lr": space.log(1e-5, 1e-1), "optimizer": space.choice("sgd", "adam")}
RANDOM = optuna.samplers.RandomSampler(seed=0)


class Unlocked:
    def acquire(self) -> None: ...
    def release(self) -> None: ...


def points(n: int) -> list[dict[str, Any]]:
    return [{"lr": 1e-4 * (i + 1), "optimizer": "adam"} for i in range(n)]


def search(storage: Storage) -> Trials:
    return Trials(storage, SPACE, signature={})


@contextlib.contextmanager
def begun(folder: Path, n: int = 3) -> Iterator[Trials]:
    """A search of which the first trial is done and the others run."""
    with open_storage(folder, wait=0.2) as storage:
        trials = search(storage)
        batch = trials.begin(points(n))
        trials.done(batch[0], 0.5, seconds=1.0)
        yield trials


def plain(folder: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    return optuna.load_study(
        study_name="tune", storage=optuna.storages.JournalStorage(backend), sampler=RANDOM
    )


@pytest.mark.parametrize("last", ["the end of a trial", "a trial that begins"])
def test_a_record_torn_at_any_byte_costs_that_record_and_nothing_else(
    tmp_path: Path, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("downslope.tuning.journal.os.fsync", lambda file: None)
    with begun(tmp_path) as trials:
        if last == "the end of a trial":
            trials.failed(trials.all()[1], "out of memory")
        else:
            trials.begin([{"lr": 0.05, "optimizer": "sgd"}])
    path = tmp_path / "journal.log"
    data = path.read_bytes()
    whole = data.rfind(b"\n", 0, -1) + 1
    torn = tmp_path / "torn.log"
    for cut in range(whole, len(data)):
        torn.write_bytes(data[:cut])
        journal = Journal(torn, Unlocked())
        storage = opened(journal)
        before = storage.get_all_trials(0)
        assert torn.read_bytes() == data[:whole]
        assert [each.state.name for each in before] == ["COMPLETE", "RUNNING", "RUNNING"]
        assert bool(journal.told) == (cut > whole)
        storage.set_trial_user_attr(2, "note", cut)
        assert opened(Journal(torn, Unlocked())).get_trial(2).user_attrs["note"] == cut
    kept = (tmp_path / "torn.log.torn").read_bytes().split(b"\n")
    assert kept[-2] == data[whole:-1]


def test_a_torn_record_is_told_and_the_search_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begun(tmp_path):
        pass
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"x","stu')
    with begun(tmp_path, 2) as trials:
        assert [each.state for each in trials.all()] == [
            "done",
            "lost",
            "lost",
            "waiting",
            "waiting",
            "done",
            "running",
        ]
    assert "its last line was unfinished and is now in journal.log.torn" in caplog.text
    assert [each.state.name for each in plain(tmp_path).trials][:3] == ["COMPLETE", "FAIL", "FAIL"]


@pytest.mark.parametrize(
    ("broken", "states"),
    [
        # another program's record was joined to a torn one (optuna#5138): the record is kept
        (lambda line: b'{"op_code":4,"worker_id":"x","stu' + line, ["COMPLETE", "RUNNING", "RUNNING"]),
        # the record of a trial that begins is broken: those after it keep their numbers
        (lambda line: line[:40] if b'"op_code":4' in line else line, ["FAIL", "FAIL", "FAIL"]),
        # the end of a trial is broken: it is still running
        (lambda line: line[:40] if b'"op_code":6' in line else line, ["RUNNING", "RUNNING", "RUNNING"]),
    ],
)
def test_a_broken_line_is_mended_as_far_as_it_can_be(tmp_path: Path, broken: Any, states: list[str]) -> None:
    with begun(tmp_path):
        pass
    path = tmp_path / "journal.log"
    head, *rest = path.read_bytes().splitlines()
    was = b"".join(each + b"\n" for each in [head, *map(broken, rest)])
    path.write_bytes(was)
    journal = Journal(path, Unlocked())
    assert [each.state.name for each in opened(journal).get_all_trials(0)] == states
    assert (tmp_path / "journal.log.bad").read_bytes() == was
    assert "lines were broken" in journal.told[0]
    assert [each.state.name for each in plain(tmp_path).trials] == states


def test_what_is_no_record_at_all_ends_the_journal_there(tmp_path: Path) -> None:
    with begun(tmp_path):
        pass
    path = tmp_path / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"\0" * 64 + b"\n", *lines[3:]]))
    journal = Journal(path, Unlocked())
    assert [each.state.name for each in opened(journal).get_all_trials(0)] == ["RUNNING"]
    assert f"the last {len(lines) - 2} left out" in journal.told[0]


@pytest.mark.parametrize("content", [b"lr,loss\n0.1,0.5\n", b"hello", b'{"a": 1}\n'])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(StorageError, match="is no journal of a search"):
        open_storage(tmp_path / "table.csv")
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]
    assert (tmp_path / "table.csv").read_bytes() == content


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
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
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


def holder(script: str, *arguments: str) -> subprocess.Popen[str]:
    head = "import sys, time\nfrom pathlib import Path\n"
    tail = "\nprint('held', flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + script + tail, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


OURS = """
from downslope.tuning.guard import Guard
from downslope.tuning.life import Signs
path = Path(sys.argv[1])
life = Signs(path.with_name(path.name + '.life'))
Guard(path, life.sign, life.dead, 1.0).acquire()
"""


def test_a_lock_that_is_held_names_its_holder_and_falls_with_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    with begun(tmp_path) as trials, holder(OURS, str(path)) as process:
        with pytest.raises(StorageError, match=rf"locked by process {process.pid} on .* for more than 0.2 s"):
            trials.begin(points(1))
        assert [each.state for each in trials.all()] == ["done", "running", "running"]
        process.kill()
        process.wait()
        assert len(trials.begin(points(1))) == 1
        assert not (tmp_path / "journal.log.lock").is_symlink()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[guard.Guard]:
    path = tmp_path / "journal.log"
    path.touch()
    life = Signs(tmp_path / "life")
    yield guard.Guard(path, life.sign, life.dead, 0.2)
    life.close()


LOCKS = (optuna.storages.journal.JournalFileSymlinkLock, optuna.storages.journal.JournalFileOpenLock)


@pytest.mark.parametrize("theirs", LOCKS)
def test_a_lock_of_optuna_is_waited_for(tmp_path: Path, own: guard.Guard, theirs: Any) -> None:
    lock, order = theirs(str(tmp_path / "journal.log")), list[str]()
    lock.acquire()

    def give_back() -> None:
        order.append("given back")
        lock.release()

    timer = threading.Timer(0.1, give_back)
    timer.start()
    own.acquire()
    order.append("taken")
    own.release()
    timer.join()
    assert order == ["given back", "taken"]
    lock.acquire()  # and is free again for Optuna
    lock.release()


@pytest.mark.parametrize("theirs", LOCKS)
def test_a_lock_that_optuna_left_behind_is_taken_as_optuna_does(
    tmp_path: Path, own: guard.Guard, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "GRACE", 0.1)
    theirs(str(tmp_path / "journal.log")).acquire()
    own.acquire()
    own.release()
    assert not (tmp_path / "journal.log.lock").is_symlink()
    assert not (tmp_path / "journal.log.lock").exists()


def test_our_lock_keeps_plain_optuna_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    with begun(tmp_path) as trials, trials.batch():
        for lock in (
            optuna.storages.journal.JournalFileSymlinkLock(str(path)),
            optuna.storages.journal.JournalFileOpenLock(str(path)),
        ):
            with pytest.raises(FileExistsError):
                path.with_name(Path(lock._lock_file).name).symlink_to(path)
            with pytest.raises(FileExistsError):
                os.open(lock._lock_file, os.O_CREAT | os.O_EXCL)


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
