"""Independent processes on one storage, some of them killed: every trial is accounted for exactly once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest

from downslope.tuning.reading import read_trials
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials
from tests.tuning.worker import SIZE, SPACE

WORKER = Path(__file__).with_name("worker.py")


def started(place: str, budget: int, falls_asleep: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", str(WORKER), place, str(budget), str(falls_asleep)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for_round(process: subprocess.Popen[str], rounds: int) -> None:
    assert process.stdout is not None
    for _ in range(rounds):
        assert process.stdout.readline(), "the worker ended before that"


def killed_in_round(place: str, budget: int, rounds: int) -> None:
    with started(place, budget, rounds) as process:
        wait_for_round(process, rounds)
        process.kill()  # SIGKILL: nothing of it can be caught


def finished(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=60)
    assert process.returncode == 0


def begun_by_a_killed_process_is_trained_by_others(place: str, budget: int) -> None:
    """Three processes on one storage, of which one is killed in its third round."""
    with started(place, budget, 2) as doomed:
        wait_for_round(doomed, 2)
        with started(place, budget) as one, started(place, budget) as another:
            wait_for_round(one, 1)
            wait_for_round(another, 1)
            doomed.kill()
            finished(one)
            finished(another)
    found = read_trials(place, SPACE)
    assert Counter(each.state for each in found) == {"done": budget, "lost": SIZE}
    assert sorted(each.value or 0.0 for each in found if each.state == "done") == [
        i / budget for i in range(budget)
    ]
    lost = {each.number: each for each in found if each.state == "lost"}
    again = {each.retry_of: each for each in found if each.retry_of is not None}
    assert lost.keys() == again.keys()
    assert all(again[n].values == lost[n].values and again[n].losses == 1 for n in lost)
    assert all("its worker died (process" in (each.cause or "") for each in lost.values())


@pytest.mark.parametrize(("kind", "budget"), [("journal", 48), ("sqlite", 16)])
def test_what_a_killed_process_had_begun_is_trained_again_by_the_others(
    tmp_path: Path, kind: str, budget: int
) -> None:
    place = {"journal": f"{tmp_path}/journal.log", "sqlite": f"sqlite:///{tmp_path}/search.db"}[kind]
    begun_by_a_killed_process_is_trained_by_others(place, budget)


def test_what_has_killed_two_processes_is_failed_and_not_tried_a_third_time(tmp_path: Path) -> None:
    place = str(tmp_path)
    killed_in_round(place, 12, 1)
    killed_in_round(place, 12, 1)
    with started(place, 12) as last:
        finished(last)
    found = read_trials(place, SPACE)
    assert Counter(each.state for each in found) == {"lost": SIZE, "failed": SIZE, "done": 8}
    assert [each.retry_of for each in found if each.state == "failed"] == [0, 1, 2, 3]
    assert "and that of trial 3 before" in (found[7].cause or "")
    with open_storage(place) as storage:
        assert Trials(storage, SPACE, signature={"problem": "none"}).spent.trials == 12


def test_plain_optuna_reads_the_file_of_a_search_that_lost_a_worker(tmp_path: Path) -> None:
    killed_in_round(str(tmp_path), 8, 1)
    with started(str(tmp_path), 8) as last:
        finished(last)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    study = optuna.load_study(study_name="tune", storage=optuna.storages.JournalStorage(backend))
    states = Counter(each.state.name for each in study.trials)
    assert states == {"COMPLETE": 8, "FAIL": 4}
    assert [each.params["x"] for each in study.trials if each.state.name == "COMPLETE"] == [
        each.value for each in study.trials if each.state.name == "COMPLETE"
    ]
