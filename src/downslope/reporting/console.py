"""Run, Diagnosis and Repair as terminal rows, in the order one reads: what ran, what is wrong, what helps."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.core.finding import Finding, Severity
from downslope.core.numerals import many
from downslope.core.run import Run
from downslope.diagnosis import counted
from downslope.diagnosis.candidates import parts
from downslope.reporting import facts, ground, proof, verdict
from downslope.reporting.numerals import duration
from downslope.reporting.rows import LABEL, Row, Tone

if TYPE_CHECKING:
    from downslope.diagnosis.diagnosis import Diagnosis
    from downslope.diagnosis.repair import Repair, Trial
    from downslope.terrain.exact.solution import Solution
    from downslope.training.evaluate import Evaluation

_TONES: dict[Severity, Tone] = {"critical": "bad", "warning": "warn", "info": "plain"}


def header(run: Run) -> list[Row]:
    """One row: task, machine, data, recipe, and whether the problem is convex."""
    parts = (facts.name(run), facts.machine(run), facts.sizes(run), facts.recipe(run), facts.shape(run))
    return [Row("  ".join(part for part in parts if part), tone="strong")]


def of_run(run: Run, label: str = "fit") -> list[Row]:
    """What the run did: steps, seconds, losses, and how it ended where that was not as planned."""
    planned, taken = facts.planned(run), facts.steps(run)
    progress = f"{taken}/{planned}" if planned is not None and planned >= taken else many(taken, "step")
    parts = [progress, duration(run.summary.get("seconds")), facts.result(run)]
    rows = [Row("  ".join(part for part in parts if part and part != "-"), label=label)]
    if weights := facts.task_weights(run):
        rows.append(Row(weights, indent=LABEL))
    if convex := facts.convex(run):
        rows.append(Row(convex, indent=LABEL))
    if under := ground.words(run):
        rows.append(Row(under.rstrip("."), label="ground", indent=2))
    ended = facts.status(run)
    if ended:
        tone: Tone = "bad" if facts.bad(run) else "faint"
        rows.append(Row(ended, label="end", indent=2, tone=tone))
    return rows


def of_solution(found: Solution, judged: Evaluation | None = None) -> list[Row]:
    """The exact answer: value, proof, what is to be known of the data, and how it does on held-out data."""
    problem = found.problem
    size = problem.train_source.size
    parts = (problem.name, f"{size} train" if size else "", f"l2 {found.l2:g}" if found.l2 else "")
    head, proved, *rest = found.lines()
    rows = [Row("  ".join(each for each in parts if each), tone="strong"), Row(head, label="exact")]
    if judged is not None:
        name = str(getattr(problem.metric, "__name__", "metric"))
        metric = "" if judged.metric is None else f"  valid {name} {facts.fixed(judged.metric)}"
        rows.append(Row(f"valid loss {facts.told(judged.loss)}{metric}", indent=LABEL))
    tone: Tone = "warn" if found.kind in ("not-attained", "undecided") else "plain"
    return [*rows, Row(proved, label="proof"), *(Row(each, label="note", tone=tone) for each in rest)]


def of_diagnosis(found: Diagnosis) -> list[Row]:
    """Verdict, causes with what was seen and what follows, what was cleared and what could not be judged."""
    rows = [Row(found.verdict.rstrip("."), tone=_mood(found))] if found.verdict else []
    for finding in found.findings:
        rows += _finding(finding)
    rows += by_hand(found.run, [each.symptom for each in found.findings if each.severity != "info"])
    rows += _checked(found)
    rows += [Row(note, label="note", indent=2, tone="faint") for note in found.notes]
    if verdict.unexplained(found):
        rows.append(Row(verdict.UNEXPLAINED, tone="warn"))
    elif found.root is None and found.reserve:
        rows.append(Row(found.reserve, tone="warn"))
    elif found.healthy:
        rows.append(Row("healthy, nothing to fix", tone="good"))
    return rows


def _checked(found: Diagnosis) -> list[Row]:
    """How much of each group of symptoms is clear, and what could not be judged, with the reason."""
    clear = counted.clear(found.cleared, found.not_checked, found.symptoms)
    told = (("clear", clear), ("open", found.open_to("--report and --json say why")))
    return [Row(text, label=label, indent=2, tone="faint") for label, text in told if text]


def _mood(found: Diagnosis) -> Tone:
    if verdict.unexplained(found):
        return "warn"
    return "plain" if found.healthy else "bad"


def _finding(finding: Finding) -> list[Row]:
    label = "info" if finding.severity == "info" else "cause"
    head = f"{finding.symptom} [{finding.severity}], {finding.where}"
    rows = [Row(head, label=label, tone=_TONES[finding.severity])]
    rows.append(Row(finding.message or str(finding.evidence), label="seen", indent=2))
    rows += [
        Row(f"{each.symptom}: {each.message or each.evidence}", label="then", indent=2)
        for each in finding.consequences
    ]
    if finding.remedies and finding.severity != "info":
        first = finding.remedies[0]
        rows.append(Row(str(first), label="do", indent=2))
        rows += [Row(first.meaning, indent=LABEL)] if first.meaning else []
    return rows


def by_hand(run: Run, symptoms: Sequence[str]) -> list[Row]:
    """The change to make in the model's own forward, to be copied, where its line is known for certain."""
    at: Mapping[str, Any] = (run.facts.get("output") or {}).get("place") or {}
    if "output-activation" not in symptoms or not at:
        return []
    name = (run.facts["output"] or {}).get("activation")
    said = f"{name} is called in {at['class']}.forward, {at['file']} line {at['line']}"
    if at["new"] is None:
        return [Row(f"{said}: {at['old'].strip()}", label="or", indent=2)]
    diff = (
        f"--- {at['file']}", f"+++ {at['file']}", f"@@ -{at['line']} +{at['line']} @@",
        f"-{at['old']}", f"+{at['new']}",
    )  # fmt: skip
    head = Row(f"{said}; without it the objective stays as it is:", label="or", indent=2)
    return [head, *(Row(each, whole=True) for each in diff)]


def of_repair(repaired: Repair) -> list[Row]:
    """The proof: each remedy before and after, the paired difference with its interval, and what was kept."""
    if repaired.idle:
        return []
    rows = [Row(proof.setting(repaired), label="proof")]
    higher = proof.higher_is_better(repaired)
    width = max((size for each in repaired.trials if (size := len(str(each.edit))) <= 44), default=0)
    rows += [_trial(each, higher, width) for each in repaired.trials]
    tried = [part for each in repaired.trials for part in parts(each.edit)]
    told = dict.fromkeys(each.meaning for each in tried if each.meaning)
    known = {each.remedies[0].meaning for each in repaired.diagnosis.findings if each.remedies}
    rows += [Row(each, indent=2, tone="faint") for each in told if each not in known]
    if repaired.kept is None and repaired.trials:
        rows.append(
            Row("nothing won for certain: recipe and problem stay as they are", indent=2, tone="warn")
        )
    rows += [Row(repaired.counted, indent=2, tone="faint")] if repaired.counted else []
    rows += [Row(f"{each}  (by hand, unproved)", indent=2) for each in repaired.advice]
    rows += [Row(note, label="note", indent=2, tone="faint") for note in repaired.notes]
    return rows


def _trial(trial: Trial, higher: bool, width: int) -> Row:
    name = f"{trial.edit!s:<{width}}"
    if not trial.after:
        return Row(f"{name}  {trial.verdict}: {trial.reason}", indent=2, tone="faint")
    before, after = (facts.fixed(proof.average(each)) for each in (trial.before, trial.after))
    inside = ", ".join(part for part in proof.gained(trial, higher) if part)
    word = trial.verdict.upper() if trial.verdict == "kept" else trial.verdict
    word += f": {trial.reason}" if trial.reason else ""
    tone: Tone = "good" if trial.verdict == "kept" else "plain"
    return Row(f"{name}  {before} -> {after}  ({inside})  {word}", indent=2, tone=tone)


def whole_repair(repaired: Repair) -> list[Row]:
    """Everything of a repair in order: what ran, what is wrong, what was proved."""
    found = repaired.diagnosis
    return [*header(found.run), *of_run(found.run), *of_diagnosis(found), *of_repair(repaired)]


def next_of_repair(
    repaired: Repair,
    task: str,
    fixed: Path | None = None,
    written: Path | None = None,
    changes: Path | None = None,
) -> list[Row]:
    """How to train with what was kept, and where the changes are that have to be made in code."""
    rows = _kept(repaired.diagnosis.run)
    by_hand = len(repaired.by_hand)
    if changes is not None:
        rows.append(
            Row(f"{shown(changes)} has the changes of the problem as code{_to_make(by_hand)}", label="code")
        )
    if fixed is None:
        return [*rows, *opened(written)]
    after = "   # once the code is changed" if by_hand else ""
    return [*rows, *_then(f"downslope fit {task} --recipe {said(fixed)}{after}", written)]


def _to_make(by_hand: int) -> str:
    """Of how many changes no recipe file can take care."""
    if not by_hand:
        return ""
    are = "1 of them is code" if by_hand == 1 else f"{by_hand} of them are code"
    return f"; {are} that no recipe file holds, to be made by hand"


def next_of_diagnosis(found: Diagnosis, task: str | None, written: Path | None = None) -> list[Row]:
    """What to do about it; of a run without its task, where to read more."""
    kept = _kept(found.run)
    if found.healthy:
        return [*kept, *opened(written)]
    if task is None and found.run.folder is not None:
        follow = f"downslope report {said(found.run.folder)}"
        return [*kept, *(opened(written) or [Row(follow, label="next")])]
    serious = [each for each in found.findings if each.severity != "info"]
    by_hand = bool(serious) and not any(edit.provable for each in serious for edit in each.remedies)
    if by_hand:
        return [*kept, *_then(f"downslope diagnose {task}   # once that is put right", written)]
    if found.interrupted and found.root is None:
        return [*kept, *_then(f"downslope diagnose {task}", written)]
    return [*kept, *_then(f"downslope repair {task}", written)]


def _kept(run: Run) -> list[Row]:
    """Where the run is; of a folder that could not be written to the end, how much of it is there."""
    if run.folder is None:
        return []
    if (why := run.facts.get("unwritten")) is None:
        return [Row(shown(run.folder), label="kept", whole=True)]
    there = (run.folder / "checkpoints" / "last.safetensors").exists()
    left = "what was written before that is in the folder" if there else "no weights are in the folder"
    return [Row(f"{why}; {left}", label="lost", tone="bad")]


def opened(written: Path | None) -> list[Row]:
    """Where the report is; nothing without one."""
    return [Row(f"open {said(written)}", label="next", whole=True)] if written else []


def _then(command: str, written: Path | None) -> list[Row]:
    """What to do next, each command on a line of its own, never broken: it is there to be copied."""
    rows = [Row(command, label="next", whole=True)]
    return rows + ([Row(f"open {said(written)}", indent=LABEL, whole=True)] if written else [])


def next_of_run(run: Run, task: str | None, written: Path | None = None) -> list[Row]:
    """Where the run is kept and what one can do with it; without a task its report tells more."""
    rows = [Row(lost, label="note", tone="warn")] if (lost := facts.no_better(run)) else []
    rows += _kept(run)
    unfinished = run.status == "interrupted" or "unwritten" in run.facts
    follow = f"downslope resume {said(run.folder)}" if unfinished and run.folder else ""
    if not follow and task is None:
        follow = f"downslope report {said(run.folder)}" if run.folder else "downslope --help"
    follow = follow or f"downslope diagnose {task}"
    return [*rows, *_then(follow, written)]


def shown(path: Path) -> str:
    """A path as short as it can be said here."""
    whole, here = path.absolute(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(path)


def said(path: Path) -> str:
    """A path as a command says it: short, and quoted where a shell would take it apart."""
    return shlex.quote(shown(path))


def before_and_after(before: Run, after: Run) -> str:
    """The result of two runs in one line: "valid accuracy 0.43 -> 0.97"."""
    name = facts.metric_name(before)
    key = "valid_loss" if name == "loss" else "valid_metric"
    a, b = before.summary.get(key), after.summary.get(key)
    if a is None or b is None:
        return ""
    return f"valid {name} {facts.fixed(float(a))} -> {facts.fixed(float(b))}"
