"""What is done with one case: trained, diagnosed, repaired, searched, shown to the peers; one record each."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import re
import runpy
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

import downslope as ds
from bench.diagnosis import outcome
from bench.diagnosis.case import Case, cases
from bench.diagnosis.fault import Judged, Setup, Sick
from bench.diagnosis.real_cases import real
from downslope.core.errors import DownslopeError
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script

Record = dict[str, Any]

JUDGED: tuple[Judged, ...] = ("metric", "last metric", "last loss")


@functools.cache
def index() -> dict[str, Case]:
    return {case.id: case for case in (*cases(wide=True), *real())}


def work(name: str, todo: tuple[str, ...], twins: dict[str, Record]) -> Record:
    """The record of the case `name`; `todo` holds words of "diagnose", "repair", "search", "peers".

    Args:
        name: Id of the case.
        todo: What to do beyond training.
        twins: What twins have reached, by the id of the twin, where it is known.
    """
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # a batch size that rescales the rate says so
    warnings.simplefilter("ignore")
    case = index()[name]
    begun = time.monotonic()
    record: Record = {
        "case": case.id, "kind": case.kind, "symptom": case.symptom, "base": case.base, "grade": case.grade,
        "level": case.level, "seed": case.seed, "half": case.half, "also": list(case.also),
    }  # fmt: skip
    try:
        record |= _script(case, todo) if case.script is not None else _trained(case, todo, twins)
    except Exception:  # noqa: BLE001 (a crash is a result: it is counted)
        record["error"] = traceback.format_exc(limit=-4)
    record["took"] = time.monotonic() - begun
    return record


def _trained(case: Case, todo: tuple[str, ...], twins: dict[str, Record]) -> Record:
    setup = case.build()
    reached, run = outcome.train(setup)
    record: Record = {
        "case": case.id,
        "status": reached.status,
        "run_seconds": reached.seconds,
        "score": reached.score,
    }
    if isinstance(setup, Sick):
        twin = _twin(case, setup, twins)
        record |= {"constant": twin["constant"], "twin": twin["score"], "twin_learns": twin["learns"]}
        covered = outcome.share(reached.score, twin["constant"], twin["score"])
        record |= {"share": covered, "harmful": covered < outcome.HARMFUL}
    else:
        record |= {"reached": _reached(setup, run)}
        record["learns"] = record["reached"]["metric"]["learns"]
    if "diagnose" in todo:
        record["diagnosis"], found = _diagnosed(setup)
        if "repair" in todo and found is not None and isinstance(setup, Sick):
            from bench.diagnosis.search import mended, searched

            record["repair"] = mended(setup, found, record)
            if "search" in todo:
                record["search"] = searched(setup, record["repair"]["seconds"], record)
    if "peers" in todo:
        from bench.diagnosis.peers import asked

        record["peers"] = asked(setup)
    return record


def _reached(setup: Setup, run: Any) -> dict[str, Record]:
    """What a healthy run reached, by both ways of judging."""
    found: dict[str, Record] = {}
    for judged in JUDGED:
        value = None if run is None else outcome.score(run, setup.problem, judged)
        base = outcome.constant(setup.problem, judged)
        learns = outcome.learns(value, base, setup.problem) if judged != "last loss" else True
        found[judged] = {"score": value, "constant": base, "learns": learns}
    return found


_KNOWN: dict[str, dict[str, Record]] = {}


def _twin(case: Case, sick: Sick, twins: dict[str, Record]) -> Record:
    """What the healthy twin reached; trained here where no record tells."""
    name = f"twin/{case.id}" if sick.twin is not None else f"twin/{case.base}/{case.seed}"
    if sick.judge is not None:
        return _twin_by_judge(sick)
    if name not in twins and name not in _KNOWN:
        twin = sick.twin or index()[name].build()
        _KNOWN[name] = _reached(twin, outcome.train(twin)[1])
    return (twins.get(name) or _KNOWN[name])[sick.judged]


def _twin_by_judge(sick: Sick) -> Record:
    assert sick.judge is not None
    assert sick.twin is not None, "a judge of its own needs a twin of its own"
    _, run = outcome.train(sick.twin)
    value = None if run is None else outcome.scored_by(sick.judge, run.model(), sick.judged)
    base = outcome.constant(sick.judge, sick.judged)
    return {"score": value, "constant": base, "learns": outcome.learns(value, base, sick.judge)}


# -- the diagnosis -------------------------------------------------------------------------------------------


def _diagnosed(setup: Setup) -> tuple[Record, Diagnosis | None]:
    begun = time.monotonic()
    try:
        found = ds.diagnose(setup.problem, setup.recipe, progress=False, folder=False)
    except DownslopeError as error:
        return {"refused": str(error)[:300], "seconds": time.monotonic() - begun}, None
    return told(found, time.monotonic() - begun), found


def told(found: Diagnosis, took: float) -> Record:
    """A diagnosis as plain values."""
    own = float(found.run.facts.get("seconds") or 0.0)
    return {
        "healthy": found.healthy, "root": None if found.root is None else found.root.symptom,
        "serious": [each.symptom for each in found.findings if each.severity != "info"],
        "symptoms": found.symptoms, "verdict": found.verdict,
        "failed": [f"{name}: {why}" for name, why in found.not_checked if "the check failed" in why],
        "seconds": took, "run_seconds": own, "late": took > 2 * own + 10,
    }  # fmt: skip


# -- scripts -------------------------------------------------------------------------------------------------


def _script(case: Case, todo: tuple[str, ...]) -> Record:
    """Run, as it is and watched; the last ``score=`` that it prints counts."""
    assert case.script is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_text(case.script(), encoding="utf-8")
        begun = time.monotonic()
        printed = _printed(path)
        value, base = _said("score", printed), case.constant
        base = _said("constant", printed) if base is None else base
        record: Record = {"status": "done", "score": value, "run_seconds": time.monotonic() - begun}
        record["constant"] = base
        if case.kind == "script":
            twin = Path(folder) / "twin.py"
            other = index()[case.id.replace("script/", "script twin/", 1)]
            assert other.script is not None
            twin.write_text(other.script(), encoding="utf-8")
            healthy = _said("score", _printed(twin))
            covered = outcome.share(value, base, healthy)
            record |= {"twin": healthy, "share": covered, "harmful": covered < outcome.HARMFUL}
            record["twin_learns"] = _learns(healthy, base)
        else:
            record["learns"] = _learns(value, base)
        if "diagnose" in todo:
            begun = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                found, _ = watch_script(path)
            took = time.monotonic() - begun
            record["diagnosis"] = {"refused": "no step was seen"} if found is None else told(found, took)
    return record


def _learns(value: float | None, base: float | None) -> bool:
    return value is not None and base is not None and value - base >= outcome.LEARNS * (1 - base)


def _printed(path: Path) -> str:
    """What a script prints, up to where it ends or fails."""
    out, kept = io.StringIO(), sys.argv
    sys.argv = [str(path)]
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit, Exception):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = kept
    return out.getvalue()


def _said(word: str, printed: str) -> float | None:
    """The last number that was printed as ``word=number``."""
    said = re.findall(rf"\b{word}=(\S+)", printed)
    value = float(said[-1]) if said else None
    return value if value is not None and value == value else None
