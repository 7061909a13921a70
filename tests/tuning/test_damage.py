"""Records that are torn or broken: what cannot be saved is kept aside, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from downslope.core.errors import StorageError
from downslope.tuning.journal import Journal, opened
from downslope.tuning.storage import open_storage
from tests.tuning.journals import begun, plain


class Unlocked:
    def acquire(self) -> None: ...
    def release(self) -> None: ...


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
