"""What a race keeps while it runs: every run as soon as it has ended, under its own name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.racing import course
from downslope.racing.race import race


def problem() -> ds.Problem:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (x[:, 0] > 0).long()
    return ds.Problem(
        model=lambda: torch.nn.Linear(3, 2).double(), objective="cross_entropy", train=(x[:16], y[:16]),
        valid=(x[16:], y[16:]), name="line",
    )  # fmt: skip


OPTIONS: dict[str, Any] = {
    "recipe": ds.Recipe(batch_size=8, epochs=2), "seeds": 2, "trials": 4, "progress": False,
}  # fmt: skip


def outcomes(folder: Path) -> list[tuple[str, int]]:
    lines = [json.loads(line) for line in (folder / "race.jsonl").read_text().splitlines()]
    return [(line["contestant"], line["number"]) for line in lines if line["kind"] == "outcome"]


def test_a_run_is_on_the_disk_before_the_next_one_of_its_stage_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill within a stage of long runs lost all of them."""
    own, seen = course.outcome_of, []

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(outcomes(tmp_path))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return own(*args, **options)

    monkeypatch.setattr(course, "outcome_of", watched)
    found = race(problem(), ["sgd", "adam"], **OPTIONS, folder=tmp_path, way="one by one")
    assert found.status == "interrupted"
    assert seen[3] == [("sgd", 0), ("sgd", 1), ("sgd", 2)]
    monkeypatch.undo()
    again = race(problem(), ["sgd", "adam"], **OPTIONS, folder=tmp_path, way="one by one")
    assert again.status == "done"
    assert len(outcomes(tmp_path)) == len(set(outcomes(tmp_path))) + 4  # the seeds have numbers of their own


def test_where_others_were_interrupted_a_run_keeps_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes end in any order: the runs that come back are not the first ones."""
    own = course.fit_population

    def late(problems: Any, recipes: Any, **options: Any) -> Any:
        keep = options.pop("on_end")
        runs = own(problems, recipes, **options)
        keep(2, runs[2])
        runs[3].status = "interrupted"
        return runs[2:]

    monkeypatch.setattr(course, "fit_population", late)
    found = race(problem(), ["sgd", "adam"], **OPTIONS, folder=tmp_path)
    assert found.status == "interrupted"
    assert outcomes(tmp_path) == [("sgd", 2)]
    monkeypatch.undo()
    whole = race(problem(), ["sgd", "adam"], **OPTIONS)
    assert found.entry("sgd").tuning[0].level == pytest.approx(whole.entry("sgd").tuning[2].level)


def test_time_that_is_up_while_steps_are_timed_ends_the_race_there(monkeypatch: pytest.MonkeyPatch) -> None:
    own = course.first_look

    def slow(*args: Any) -> float:
        time.sleep(0.06)
        return own(*args)

    monkeypatch.setattr(course, "first_look", slow)
    several = {name: problem() for name in "abcdef"}
    found = race(several, ["sgd", "adam"], **OPTIONS, seconds=0.1)
    assert found.status == "time"
    assert sum(each.step_seconds > 0 for each in found.entries) == 2
    assert any("the time was up before the seeds were raced; give more of it" in note for note in found.notes)


def test_what_is_in_work_is_told_at_every_end_of_a_run() -> None:
    """On a terminal a stage of long runs stood still."""
    said: list[str] = []
    race(problem(), ["sgd", "adam"], **OPTIONS, going=said.append)
    assert said[0] == "line: timing steps of sgd"
    assert "line: tuning adam, 4 runs" in said
    assert "line: tuning adam, 3 of 4 runs have ended" in said
    assert said[-1] == "line: seeds 1 to 2, 4 of 4 runs have ended"


def test_what_differs_in_a_folder_of_another_race_is_named_by_its_key(tmp_path: Path) -> None:
    from downslope.core.errors import RunFolderError
    from downslope.racing.ledger import Ledger

    there = {"seeds": 2, "problems": {"line": {"steps": [4, 4], "train": "x" * 500}}}
    Ledger(tmp_path, there).fact("trials", 2)
    with pytest.raises(RunFolderError, match="problems line steps was") as found:
        Ledger(tmp_path, {"seeds": 2, "problems": {"line": {"steps": [8, 8], "train": "x" * 500}}})
    assert len(str(found.value)) < 120 + len(str(tmp_path))
    with pytest.raises(RunFolderError, match=r"train was x+"):
        Ledger(tmp_path, {"seeds": 2, "problems": {"line": {"steps": [4, 4], "train": "y" * 500}}})
