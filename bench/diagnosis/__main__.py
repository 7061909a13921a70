"""Recall, root-first rate, false alarms and repairs on injected faults, their twins, and odd healthy runs.

    python -m bench.diagnosis --half calibrate --out calibrate.jsonl
    python -m bench.diagnosis --only learning-rate-too-high --limit 10
    python -m bench.diagnosis --only odd --jobs 2
    python -m bench.diagnosis --half report --repair --search --peers --out report.jsonl
    python -m bench.diagnosis --half real --out real.jsonl
    python -m bench.diagnosis --read report.jsonl --markdown

One JSON line a case; a run that was interrupted goes on where it was, as long as the commit is the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.diagnosis.case import Case, cases
from bench.diagnosis.pool import records
from bench.diagnosis.real_cases import real
from bench.diagnosis.score import line, markdown, summary


def main() -> None:
    said = _said()
    if said.read:
        lines = [each for name in said.read for each in Path(name).read_text(encoding="utf-8").splitlines()]
        found = list(
            {record["case"]: record for record in map(json.loads, lines)}.values()
        )  # the last counts
        print((markdown if said.markdown else summary)(found))
        return
    chosen = _chosen(said)
    if said.list:
        print("\n".join(f"{case.half:10}{case.id}" for case in chosen))
        print(f"{len(chosen)} cases")
        return
    out = Path(said.out) if said.out else None
    commit = _commit()
    todo = tuple(word for word in ("diagnose", "repair", "search", "peers") if getattr(said, word))
    done = [] if said.fresh or out is None else _done(out, commit, todo)
    known = {record["case"] for record in done}
    index = {case.id: case for case in chosen}
    left = [case.id for case in chosen if case.id not in known]
    twins = {record["case"]: record["reached"] for record in done if "reached" in record}
    known_ones = len(index) - len(left)
    print(f"{len(index)} cases, {known_ones} known, {len(left)} to do", file=sys.stderr, flush=True)
    begun, found = time.monotonic(), [record for record in done if record["case"] in index]
    for record in records(left, todo, twins, jobs=said.jobs, limit=said.seconds,
                          blank=lambda name: _blank(index[name])):  # fmt: skip
        record |= {"commit": commit, "todo": list(todo)}
        found.append(record)
        if "reached" in record:
            twins[record["case"]] = record["reached"]
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if not said.quiet:
            print(line(record), flush=True)
    print((markdown if said.markdown else summary)(found))
    print(f"{time.monotonic() - begun:.0f} s in all")


def _said() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--half", choices=("calibrate", "report", "both", "real"), default="calibrate",
        help="limits may be set on the one, are reported on the other; real: what others had")  # fmt: skip
    add("--only", default="", help="a symptom's id, healthy, odd, sick, scripts, or a part of a case's id")
    add("--limit", type=int, help="at most so many cases")
    add("--every", type=int, default=1, help="every N-th case")
    add("--level", choices=("fatal", "mild"), help="the worst, or the mildest, grade of each fault alone")
    add("--wide", action="store_true", help="every fault wherever it fits")
    add("--jobs", type=int, default=1)
    add("--out", help="file of results, one JSON line a case")
    add("--fresh", action="store_true", help="do again what the file holds")
    add("--seconds", type=float, default=300.0, help="that a case may take")
    add("--outcome", dest="diagnose", action="store_false", help="train only: is it harmful at all?")
    add("--repair", action="store_true", help="repair what is sick")
    add("--search", action="store_true", help="and let a random search have as many seconds")
    add("--peers", action="store_true", help="ask torchmortem and AutoTrainer's rules too")
    add("--list", action="store_true", help="name the cases and do nothing")
    add("--read", nargs="+", help="only count what these files hold")
    add("--markdown", action="store_true", help="tables for the documentation")
    add("--quiet", action="store_true", help="no line for each case")
    return parser.parse_args()


def _chosen(said: argparse.Namespace) -> list[Case]:
    """The cases that were asked for; with a limit spread over what there is."""
    found = [
        case
        for case in (real() if said.half == "real" else cases(wide=said.wide))
        if said.half in ("both", case.half) and _wanted(case, said.only)
    ]
    if said.level:
        found = [case for case in found if case.kind != "sick" or _graded(case, said.level)]
    found = found[:: said.every]
    if said.limit and len(found) > said.limit:
        found = [found[round(i * (len(found) - 1) / max(said.limit - 1, 1))] for i in range(said.limit)]
    return found


def _graded(case: Case, level: str) -> bool:
    return case.worst if level == "fatal" else case.level == 0


def _wanted(case: Case, only: str) -> bool:
    kinds = {"healthy": ("twin", "script twin"), "odd": ("odd",), "sick": ("sick", "script"),
             "scripts": ("script", "script twin")}  # fmt: skip
    if not only:
        return True
    if only in kinds:
        return case.kind in kinds[only]
    from bench.diagnosis.fault import FAULTS, SCRIPTS

    if any(only == each.symptom for each in (*FAULTS, *SCRIPTS)):
        return case.symptom == only
    return only in case.id


def _done(out: Path, commit: str, todo: tuple[str, ...]) -> list[dict[str, Any]]:
    """What the file holds of this commit, as far as it was done whole and holds all that is asked for."""
    if not out.exists():
        return []
    lines = [json.loads(each) for each in out.read_text(encoding="utf-8").splitlines()]
    known = [record for record in lines if record.get("commit") == commit and "error" not in record]
    return [record for record in known if set(todo) <= set(record.get("todo", ()))]


def _commit() -> str:
    """The commit, with a mark where source or bench differ from it."""

    def git(*words: str) -> str:
        made = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return made.stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "bench/diagnosis")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def _blank(case: Case) -> dict[str, Any]:
    return {"case": case.id, "kind": case.kind, "symptom": case.symptom, "base": case.base,
            "grade": case.grade, "level": case.level, "seed": case.seed, "half": case.half}  # fmt: skip


if __name__ == "__main__":
    main()
