"""Recall, root-first rate and false alarms of `diagnose` on injected faults; repaired share with
``--repair``.

    python -m bench.diagnosis --split 1 --seed 7        # held out: other data splits, other seeds
    python -m bench.diagnosis --every 4                 # every fourth fault

A fault counts only where it hurts: the injected run covers at most 80 % of the way from the best constant
prediction to what its healthy twin reaches by the training loss, and at most 95 % by the metric on validation
data (output-activation: by the metric alone; high-variance: always). Harmless grades are listed by
themselves: there the right answer is silence.
"""

from __future__ import annotations

import argparse
import collections
import time
from typing import Any

import torch

import downslope as ds
from bench.faults import Case, healthy, odd, sick
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.measure.sample import scored
from downslope.diagnosis.trials import score

HURTS = 0.8
METRIC_HURTS = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="")
    parser.add_argument("--repair", action="store_true")
    parser.add_argument("--sick", action="store_true", help="no healthy runs")
    parser.add_argument("--healthy", action="store_true", help="no faults")
    said = parser.parse_args()
    torch.set_num_threads(1)
    begun = time.time()
    if not said.healthy:
        _sick(said)
    if not said.sick:
        _healthy(said)
    print(f"{time.time() - begun:.0f} s in all")


def _diagnosed(case: Case) -> tuple[Diagnosis, float]:
    begun = time.time()
    found = ds.diagnose(case.problem, case.recipe, progress=False, folder=False)
    return found, time.time() - begun


def _covered(case: Case, found: Diagnosis, twins: dict[str, dict[str, Any]]) -> float:
    """Share of the way to the healthy twin that the run with the fault covers; 0 for one that was refused."""
    assert case.twin is not None
    key = case.name.rsplit("/", 1)[0]
    problem, recipe = case.twin
    if key not in twins:
        run = ds.fit(problem, recipe, folder=False, progress=False, observe=0.0)
        twins[key] = score(run, problem, scored(problem), comparable=True)
    facts = found.run.facts
    constant, ending = facts.get("constant") or {}, facts.get("ending") or {}
    if ending.get("train_loss") is None or constant.get("loss") is None:
        return 0.0
    scale = 100.0**2 if case.symptom == "unscaled-targets" else 1.0
    by_loss = (constant["loss"] - ending["train_loss"]) / (constant["loss"] - scale * twins[key]["loss"])
    low = constant["valid_metric"]
    by_metric = (ending["best_valid_metric"] - low) / (twins[key]["valid_metric"] - low)
    if by_metric > METRIC_HURTS:
        return max(by_metric, 1.0)
    return 0.0 if case.symptom == "output-activation" else by_loss


def _sick(said: Any) -> None:
    twins: dict[str, dict[str, Any]] = {}
    table: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    confusion: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    harmless = loud = slow = 0
    for case in sick(said.split, said.seed, said.every):
        if said.only not in case.name:
            continue
        found, took = _diagnosed(case)
        own = float(found.run.facts.get("seconds") or 0.0)
        late = took > 2 * own + 10
        slow += late
        share = 0.0 if case.symptom == "high-variance" else _covered(case, found, twins)
        root = found.root.symptom if found.root is not None else "-"
        assert case.symptom is not None
        if share > HURTS:
            harmless += 1
            loud += not found.healthy
            print(
                f"{'harmless' if found.healthy else 'LOUD':9}{case.name:45} {share:6.2f} {root} {took:.1f} s",
                flush=True,
            )
            continue
        row = table[case.symptom]
        row["n"] += 1
        row["found"] += case.symptom in found.symptoms and not found.healthy
        row["root"] += root == case.symptom
        confusion[case.symptom][root] += 1
        word = "ok" if root == case.symptom else "MISSED" if found.healthy else "OTHER"
        fixed = ""
        if said.repair and not found.healthy:
            mended = ds.repair(case.problem, case.recipe, diagnosis=found, progress=False)
            row["kept"] += mended.kept is not None
            fixed = f"{mended.before} -> {mended.after} by {mended.kept}"
        print(
            f"{word:9}{case.name:45} {share:6.2f} {root} {found.symptoms} {took:.1f} s "
            f"{'SLOW' * late} {fixed}",
            flush=True,
        )
    print(f"\n{'symptom':26}{'cases':>6}{'found':>7}{'root first':>12}{'kept':>6}   root named instead")
    for name, row in table.items():
        others = {k: v for k, v in confusion[name].items() if k != name}
        print(f"{name:26}{row['n']:6}{row['found']:7}{row['root']:12}{row['kept']:6}   {others or ''}")
    total = sum((c for c in table.values()), collections.Counter())
    n = max(total["n"], 1)
    print(
        f"{'all':26}{total['n']:6}{total['found'] / n:7.1%}{total['root'] / n:12.1%}{total['kept'] / n:6.0%}"
    )
    print(f"harmless grades: {harmless}, {loud} of them told as ill; over the time allowed: {slow}\n")


def _healthy(said: Any) -> None:
    count = alarms = slow = 0
    for source in (healthy, odd):
        for case in source(said.split, said.seed):
            if said.only not in case.name:
                continue
            found, took = _diagnosed(case)
            count += 1
            alarms += not found.healthy
            own = float(found.run.facts.get("seconds") or 0.0)
            slow += took > 2 * own + 10
            word = "ok" if found.healthy else "ALARM"
            print(f"{word:9}{case.name:45} {found.symptoms} {found.verdict[:60]} {took:.1f} s", flush=True)
    print(
        f"\nhealthy: {count}, false alarms: {alarms} ({alarms / max(count, 1):.1%}); "
        f"over the time allowed: {slow}\n"
    )


if __name__ == "__main__":
    main()
