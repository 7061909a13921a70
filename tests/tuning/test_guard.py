"""The lock on a journal: held, left behind by the dead, shared with plain Optuna."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from downslope.core.errors import StorageError
from downslope.tuning import guard, life
from downslope.tuning.life import Signs
from tests.tuning.journals import begun, points


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
    signs = Signs(tmp_path / "life")
    yield guard.Guard(path, signs.sign, signs.dead, 0.2)
    signs.close()


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


@pytest.mark.parametrize("links", [True, False])
def test_without_locks_of_the_system_or_links_one_still_keeps_the_other_out(
    tmp_path: Path, own: guard.Guard, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(guard, "fcntl", None)
    monkeypatch.setattr(guard, "GRACE", 0.4)
    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    signs = Signs(tmp_path / "life")
    other = guard.Guard(tmp_path / "journal.log", signs.sign, signs.dead, 0.1)
    order: list[str] = []

    def give_back() -> None:
        order.append("given back")
        other.release()

    other.acquire()
    timer = threading.Timer(0.05, give_back)
    timer.start()
    own.acquire()
    order.append("taken")
    own.release()
    timer.join()
    signs.close()
    assert order == ["given back", "taken"]
    assert not (tmp_path / "journal.log.lock").exists()


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_a_lock_that_a_dead_worker_of_another_machine_left_is_taken_when_its_lease_has_ended(
    tmp_path: Path, own: guard.Guard, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """Longer than anybody waits for one that lives; what this machine takes for the time is of no account."""
    monkeypatch.setattr(life, "LEASE", 0.6)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + skew)
    gone = tmp_path / "life" / "other~1234~5678.42.99.abcdef01"
    gone.touch()
    link = tmp_path / "journal.log.lock"
    link.symlink_to(gone)
    began = time.monotonic()
    own.acquire()  # its own wait is 0.2 s
    assert time.monotonic() - began > 0.2
    assert link.readlink().name != gone.name
    own.release()
    link.symlink_to(tmp_path / "life" / "other~1234~5678.43.99.abcdef01")  # its sign was taken down
    own.acquire()
    own.release()


def test_a_worker_of_another_machine_that_lives_and_keeps_the_lock_is_named(
    tmp_path: Path, own: guard.Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "ELSEWHERE", 0.1)
    there = tmp_path / "life" / "other~1234~5678.42.99.abcdef01"
    there.touch()
    link = tmp_path / "journal.log.lock"
    link.symlink_to(there)
    with pytest.raises(StorageError, match=r"locked by process 42 on other for more than 0\.3 s"):
        own.acquire()
    link.unlink()
    there.unlink()


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
