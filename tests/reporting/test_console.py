from __future__ import annotations

from pathlib import Path

import pytest
import torch

import downslope as ds
from downslope.core import edits
from downslope.core.finding import Evidence, Finding, Where
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.paired import difference
from downslope.diagnosis.symptom import registry
from downslope.diagnosis.trial import Trial
from downslope.reporting import console
from downslope.reporting.rows import render
from downslope.reporting.verdict import verdict
from tests.reporting.test_report import diagnosis_of, finding, repair_of, run_of


def test_a_failing_run_reads_from_what_ran_to_what_was_proved() -> None:
    run = run_of(choices={"device": "cpu", "threads": 2})
    dead = Finding(
        symptom="dead-units", title="dead", severity="warning", where=Where(modules=("a",), steps=(4, 40)),
        evidence=Evidence(name="dead", value=0.94, threshold=0.5), message="94 % zero from step 4",
    )  # fmt: skip
    root = finding()
    root = Finding(**{**vars(root), "consequences": (dead,)})
    text = render(console.whole_repair(repair_of(diagnosis_of(run, root))), 100)
    assert text.splitlines() == [
        "task.py  CPU 2 threads  10 train  sgd lr 0.1, batch 64",
        "fit     40 steps  1.5 s  train loss 0.05  valid accuracy 0.50",
        "NOT LEARNING",
        "cause   learning-rate-too-high [critical], whole model, steps 3 to 40",
        "  seen  lr is too high",
        "  then  dead-units: 94 % zero from step 4",
        "  do    lr 0.1 -> 0.01",
        "  clear model and start 1/2",
        "  open  high-variance not judged (no validation data)",
        "proof   2 remedies x 3 seeds beside the unchanged recipe, 0.0 s, by validation accuracy",
        "  lr 0.1 -> 0.01  0.13 -> 0.92  (+0.79, 95 % 0.70 to 0.88)  KEPT",
        "  clip_norm = 1   failed: it did not run",
        "  look at the data  (by hand, unproved)",
    ]


def test_a_healthy_run_ends_in_nothing_to_fix() -> None:
    assert render(console.of_diagnosis(diagnosis_of(run_of()))).splitlines()[-1] == "healthy, nothing to fix"


def test_a_run_that_stands_still_is_not_called_healthy() -> None:
    run = run_of(status="diverged")
    text = render(console.of_diagnosis(Diagnosis(run=run)))
    assert "healthy" not in text
    assert "No cause was found" in text


def test_reasons_that_several_symptoms_share_are_said_once() -> None:
    found = Diagnosis(run=run_of(), not_checked=[("a", "no time"), ("b", "no time"), ("c", "no data")])
    assert "a, b not judged (no time); c not judged (no data)" in render(console.of_diagnosis(found))


def test_the_next_step_follows_from_what_happened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_of(folder=tmp_path / "runs" / "x")
    sick, well = diagnosis_of(run, finding()), diagnosis_of(run)
    kept = "kept    runs/x"
    assert render(console.next_of_run(run, "t.py")).splitlines() == [kept, "next    downslope diagnose t.py"]
    assert render(console.next_of_diagnosis(sick, "t.py")).splitlines() == [
        kept,
        "next    downslope repair t.py",
    ]
    assert render(console.next_of_diagnosis(well, "t.py")).splitlines() == [kept]
    words = console.next_of_repair(repair_of(sick), "t.py", Path("fixed.toml"), Path("report.html"))
    follow = ["next    downslope fit t.py --recipe fixed.toml", "        open report.html"]
    assert render(words).splitlines() == [kept, *follow]
    run.status = "interrupted"
    assert render(console.next_of_run(run, "t.py")).splitlines()[-1] == "next    downslope resume runs/x"


def test_a_run_no_better_than_a_constant_guess_is_told_so_without_a_diagnosis() -> None:
    run = run_of()
    run.facts["constant"] = {"loss": 2.302}
    run.summary["train_loss"] = 4.9
    words = "no better than a constant guess, whose training loss is 2.302"
    assert render(console.next_of_run(run, "t.py")).splitlines()[0] == f"note    {words}"
    assert verdict(run, None)[::2] == ("warn", (f"N{words[1:]}",))
    run.summary["train_loss"] = 0.3
    assert "constant" not in render(console.next_of_run(run, "t.py"))
    assert verdict(run, None)[::2] == ("plain", ())


def test_an_interrupted_or_empty_run_is_told_as_such() -> None:
    assert "interrupted; what was done is kept" in render(console.of_run(run_of(status="interrupted")))
    assert render(console.of_run(ds.Run())) == "fit     0 steps\n  end   still running"


def test_a_better_loss_is_told_as_better_whatever_its_sign() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    repaired.measure = "valid loss"
    text = render(console.of_repair(repaired))
    assert "better by 0.79" in text
    assert "by validation loss" in text


def test_a_worse_loss_is_told_as_worse_and_why_a_remedy_was_left_is_said() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    repaired.measure = "valid loss"
    given, why = (0.5, 0.6), "given up after 2 seeds: surely behind, or no gain"
    repaired.trials[0] = Trial(
        edit=edits.SetRecipe({"lr": 3.0}), before=given, after=(0.9, 0.98), verdict="not confirmed",
        gain=difference(given, (0.9, 0.98)), reason=why,
    )  # fmt: skip
    text = " ".join(render(console.of_repair(repaired)).split())
    assert "(worse by 0.39, 95 % 0.263 to 0.517) not confirmed: given up after 2 seeds" in text


def test_an_edit_with_a_long_name_does_not_push_the_numbers_away() -> None:
    repaired = repair_of(diagnosis_of(run_of(), finding()))
    long = edits.Combined(tuple(edits.SetRecipe({"lr": 0.01 * i}) for i in range(1, 12)))
    repaired.trials.append(type(repaired.trials[0])(**{**vars(repaired.trials[0]), "edit": long}))
    rows = render(console.of_repair(repaired), 100).splitlines()
    assert max(map(len, rows)) <= 100


def test_commands_and_paths_are_never_broken_so_that_they_can_be_copied(tmp_path: Path) -> None:
    deep = tmp_path / ("a_long_folder_name_" * 4) / "with another one"
    run = run_of(folder=deep)
    repaired = repair_of(diagnosis_of(run, finding()))
    words = console.next_of_repair(repaired, "task.py", deep / "f.toml", deep / "r.html")
    lines = render(words, 40).splitlines()
    assert lines[0] == f"kept    {deep}"
    assert lines[1:] == [
        f"next    downslope fit task.py --recipe '{deep / 'f.toml'}'",
        f"        open '{deep / 'r.html'}'",
    ]


def test_checks_that_are_clear_are_counted_by_group_and_many_left_open_in_one_line() -> None:
    data = [name for name, each in registry().items() if each.order[0] == "data"]
    step = [name for name, each in registry().items() if each.order[0] == "step"]
    found = Diagnosis(
        run=run_of(),
        cleared=[*((name, "") for name in data), *((name, "") for name in step[1:])],
        not_checked=[
            (step[0], "no time"),
            ("x", "not needed: all is well"),
            *((f"u{i}", "far") for i in range(5)),
        ],
    )
    text = render(console.of_diagnosis(found), 1000)
    assert f"clear data {len(data)}/{len(data)}, step {len(step) - 1}/{len(step)}\n" in text
    assert "open  6 not judged, 1 not needed; --report and --json say why\n" in text
    found.not_checked = [
        ("a", "the time ended before it could be tried"),
        *((f"u{i}", "far" * 9) for i in range(3)),
    ]
    found.not_checked.append(("b", "not tried: no time was left"))
    text = render(console.of_diagnosis(found), 1000)
    assert "open  3 not judged, 2 not judged (no time was left); --report and --json say why\n" in text


def test_healthy_of_a_watched_loop_says_of_how_many_symptoms_it_is_said() -> None:
    model = torch.nn.Linear(3, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = ds.watch(model, opt)
    draw = torch.Generator().manual_seed(0)
    for _ in range(100):
        x = torch.randn(32, 3, generator=draw)
        opt.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        opt.step()
        monitor.step(loss)
    found = monitor.diagnose()
    assert found.healthy
    judged = len({*dict(found.cleared), *found.symptoms})
    said = f"{len(found.not_checked)} could not be judged from outside, healthy is of the other {judged}"
    assert said in " ".join(str(found).split())
    assert said in render(console.of_diagnosis(found), 1000)


@pytest.mark.parametrize("columns", [None, 60])
def test_a_printed_diagnosis_fits_the_terminal(columns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    found = diagnosis_of(run_of(), finding())
    found.notes.append("a long note " * 30)
    lines = str(found).splitlines()
    assert 40 < max(map(len, lines)) <= (columns or 100)
    assert lines[-1].startswith("  ")
