"""The judge: every symptom asked of what is recorded, root causes first, consequences under them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from downslope.core.finding import Finding
from downslope.core.modules import called
from downslope.core.numerals import loss, many
from downslope.core.run import Run
from downslope.diagnosis.bidden import in_words
from downslope.diagnosis.causality import arrange
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.early import ever_rose, inflated, little, short, sudden
from downslope.diagnosis.progress import progress, untold
from downslope.diagnosis.proof import as_tried, gain, trial_of
from downslope.diagnosis.structure import structural
from downslope.diagnosis.symptom import Clear, Unknown, missing, registry
from downslope.diagnosis.unfinished import BOUGHT
from downslope.diagnosis.unjudged import by_the_end, halted, interrupted, unheard, withdraw


def judge(run: Run) -> Diagnosis:
    """The diagnosis of what `run` has recorded.

    Args:
        run: Finished, broken off, or only watched. Nothing is measured and nothing is changed.

    Returns:
        Findings with root causes first, what is cleared, and what could not be checked.
    """
    known = registry()
    findings: list[Finding] = []
    result = Diagnosis(run=run, verdict=verdict(run))
    for entry in known.values():
        reason = next((why for need in entry.needs if (why := missing(run, need)) is not None), None)
        if reason is not None:
            result.not_checked.append((entry.id, reason))
            continue
        try:
            found = entry.check(run)
        except Exception as error:  # noqa: BLE001 (a broken run must not break its diagnosis)
            result.not_checked.append((entry.id, f"the check failed: {type(error).__name__}: {error}"))
            continue
        if isinstance(found, Clear):
            result.cleared.append((entry.id, found.evidence))
        elif isinstance(found, Unknown):
            result.not_checked.append((entry.id, found.reason))
        else:
            findings.append(_told(found, run))
    if short(run) or halted(run):  # what a trial has proved stays proved
        sure = structural(run)
        findings = [
            replace(f, severity="info")
            if trial_of(run, f.symptom) is None and by_the_end(f.symptom) and f.symptom not in sure
            else f
            for f in findings
        ]
    result.interrupted = interrupted(run)
    result.cleared, left = withdraw(run, result.cleared)
    result.not_checked += left
    result.findings = arrange(findings, run, known)
    return result


def _told(finding: Finding, run: Run) -> Finding:
    """The finding with its modules called as people know them, and remedies that can be acted on."""
    names = tuple(called(run.facts, each) for each in finding.where.modules)
    remedies = in_words(run, as_tried(run, finding.symptom, finding.remedies))
    return replace(finding, where=replace(finding.where, called=names), remedies=remedies)


def _idle(run: Run) -> bool:
    """Whether a watched run trained no parameter at all, beyond doubt."""
    flow: Mapping[str, Any] = run.facts.get("flow") or {}
    return bool(flow.get("watched") and flow["sure"] and not flow["trained"] and "since" not in flow)


def _further(run: Run) -> float | None:
    """The loss that the same recipe reached in more steps, where that trial proved that they are too few."""
    trial = trial_of(run, "too-few-steps") or {}
    far = trial.get("longer") and trial.get("loss") is not None and gain(trial) >= BOUGHT
    return float(trial["loss"]) if far else None


def verdict(run: Run) -> str:
    """One line on how far the run came."""
    how = progress(run)
    if unheard(run):
        taken = many(int(run.summary["steps"] or 0), "step")
        return f"NO LOSS in {taken}: hand it over by monitor.step(loss), once a step, to have it judged."
    flow: Mapping[str, Any] = run.facts.get("flow") or {}
    if flow.get("passes"):
        taken = many(int(flow["passes"]), "time")
        return f"NEVER STEPPED: backward() was called {taken}, and the optimizer's step() never."
    if how.diverged:
        where: Mapping[str, Any] = run.facts.get("nonfinite") or {}
        at = f" at step {where['step']}: the {where['what']}" if where.get("step") is not None else ""
        inside = f" of {called(run.facts, where['module'])}" if where.get("module") else ""
        worse = "objective had not fallen" if run.maximize else "loss had not risen"
        how_so = "It did so from one step to the next" if ever_rose(run) else f"Its {worse} before"
        calm = f" {how_so}: NaN in a batch, or in the objective." if sudden(run) else ""
        return f"LOST: the run left the finite numbers{at}{inside}.{calm}"
    if how.final is None or how.constant is None:
        return ""
    if run.facts.get("rivals"):
        return "Several optimizers with losses of their own: whether such losses fall says nothing."
    known = (run.facts.get("constant") or {}).get("loss") is not None
    base = "a constant guess" if known else "the start"
    if halted(run):
        at = interrupted(run).removeprefix("interrupted ")
        return f"INTERRUPTED {at}: loss {loss(how.final)}, {loss(how.constant)} for {base}."
    if (how.futile or (how.share is not None and not how.ended_far)) and (goes := _further(run)) is not None:
        return (
            f"STOPPED WHILE LEARNING: loss {loss(how.final)}, {loss(how.constant)} for {base}; nothing "
            f"that was compared got much lower in as many steps, and more steps take it to {loss(goes)}."
        )
    if how.futile:
        held = (run.facts.get("ending") or {}).get("valid_loss") is not None
        did = "did better on held-out data" if held else f"got below {loss(how.reachable)}"
        return (
            f"NOTHING REACHABLE: loss {loss(how.final)}, {loss(how.constant)} for {base}, and nothing "
            f"that was compared {did} in as many steps."
        )
    if _idle(run):
        said = f"loss {loss(how.constant)} for {base}, {loss(how.final)} at the end"
        return f"NOTHING LEARNT: no step changed a parameter; {said}."
    if short(run):
        taken = run.summary.get("steps")
        said = f"loss {loss(how.final)}, {loss(how.constant)} for {base}"
        return f"TOO SHORT TO TELL: {taken} step{'' if taken == 1 else 's'}, {said}."
    if not how.ended_far and inflated(run):
        said = f"loss {loss(how.constant)} at the start, {loss(how.final)} at the end"
        return f"HOW FAR IS NOT KNOWN: {said}; inputs or weights out of scale made the first."
    if how.standing and little(run):
        told = "; on held-out data it never was below a constant guess" if untold(run) else ""
        return f"Learnt little: loss {loss(how.constant)} for {base}, {loss(how.final)} at the end{told}."
    if how.standing:
        better = how.final > how.constant if run.maximize else how.final < how.constant
        how_much = "hardly" if better and loss(how.final) != loss(how.constant) else "no"
        return (
            f"NOT LEARNING: loss {loss(how.final)} is {how_much} better than {base} ({loss(how.constant)})."
        )
    if how.share is None or how.reachable is None:
        return f"Learning: loss {loss(how.constant)} for {base}, {loss(how.final)} at the end."
    word = "ENDED FAR" if how.ended_far else "Learnt"
    return (
        f"{word}: loss {loss(how.final)}, {max(how.share, 0):.0%} of the way from {base} "
        f"({loss(how.constant)}) to what is reachable ({loss(how.reachable)})."
    )
