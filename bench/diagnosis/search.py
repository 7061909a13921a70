"""Repairs, and a random search that has as many seconds as the repair took."""

from __future__ import annotations

import math
import random
import statistics
import time
import zlib
from typing import Any

import downslope as ds
from bench.diagnosis import outcome
from bench.diagnosis.fault import Setup, Sick
from downslope.core.edits import StandardiseInputs, StandardiseTargets
from downslope.core.errors import DownslopeError
from downslope.diagnosis.diagnosis import Diagnosis

Record = dict[str, Any]

RATES = {"sgd": (1e-4, 10.0), "momentum": (1e-5, 1.0), "adam": (1e-5, 0.3), "adamw": (1e-5, 0.3),
         "rmsprop": (1e-5, 0.1)}  # fmt: skip
"""Where the search draws learning rates, by optimizer; even in the logarithm."""


def won(scores: list[float | None], twins: list[float | None], record: Record) -> float:
    """Share of the way from the fault to the twin, in the means; at least 0, what is lost is at the start.

    Args:
        scores: From fresh seeds.
        twins: The twin's from the same.
        record: Of the case; the way starts at the fault, or at the constant where that is better.
    """
    base = record["constant"]
    if base is None:
        return 0.0
    start = base if record["score"] is None else max(base, record["score"])
    reached, twin = (statistics.fmean(start if v is None else v for v in each) for each in (scores, twins))
    return max(0.0, (reached - start) / (twin - start)) if twin > start else 1.0


FRESH = (7919, 15_838, 23_757)
"""What is added to the case's seed to score what repair and search chose, and the twin beside them: seeds
that none has seen, so that the luckiest of many draws is not taken for the best."""


def mended(sick: Sick, found: Diagnosis, record: Record) -> Record:
    """What `repair` makes of it, trained again from fresh seeds beside its twin."""
    from bench.diagnosis.work import index  # which imports this

    begun = time.monotonic()
    result = ds.repair(sick.problem, sick.recipe, diagnosis=found, progress=False, folder=False)
    took = found.seconds + time.monotonic() - begun
    scores = [record["score"]]
    if result.kept is not None:
        scores = _reached(sick, Setup(result.problem, result.recipe))
    case = index()[record["case"]]
    twins = _reached(sick, sick.twin or index()[f"twin/{case.base}/{case.seed}"].build())
    return {"kept": None if result.kept is None else str(result.kept), "scores": scores, "seconds": took,
            "by_hand": found.root is not None and not any(each.provable for each in found.root.remedies),
            "twins": twins, "won": won(scores, twins, record),
            "tried": len(result.trials) + len(result.screened),
            "looks": [each.symptoms for each in result.looks], "notes": result.notes[:3]}  # fmt: skip


def _reached(sick: Sick, mended: Setup) -> list[float | None]:
    """What the chosen recipe reaches from fresh seeds."""
    found: list[float | None] = []
    for more in FRESH:
        recipe = mended.recipe.edit(seed=mended.recipe.seed + more)
        again = Sick(mended.problem, recipe, judged=sick.judged, judge=sick.judge)
        found.append(outcome.train(again)[0].score)
    return found


def searched(sick: Sick, seconds: float, record: Record) -> Record:
    """The best of random recipes by the problem's own validation, drawn until `seconds` are over.

    It draws optimizer, learning rate, number of steps up to the recipe's, and whether inputs and targets are
    standardised; the first trial is the recipe as it stands. The winner is scored as the repair is.
    """
    draw = random.Random(zlib.crc32(record["case"].encode()))
    begun = time.monotonic()
    best, chosen, trials = -math.inf, None, 0
    length = _steps(sick)
    trial: Setup = Setup(sick.problem, sick.recipe)
    while True:
        value = _validated(trial)
        trials += 1
        if value is not None and value > best:
            best, chosen = value, trial
        if time.monotonic() - begun > seconds:
            break
        trial = _drawn(sick, length, draw)
    scores = [None] if chosen is None else _reached(sick, chosen)
    said = None if chosen is None else chosen.recipe.describe()
    share = won(scores, record["repair"]["twins"], record)
    return {"scores": scores, "won": share, "trials": trials, "recipe": said,
            "seconds": time.monotonic() - begun}  # fmt: skip


def _steps(sick: Sick) -> int:
    recipe, batch = sick.recipe, sick.recipe.batch_size
    each = sick.problem.train_source.steps(batch if isinstance(batch, int) else 2**30) or 1
    return recipe.steps or (recipe.epochs or 20) * each


def _drawn(sick: Sick, length: int, draw: random.Random) -> Setup:
    name = draw.choice(list(RATES))
    low, high = RATES[name]
    lr = math.exp(draw.uniform(math.log(low), math.log(high)))
    how: dict[str, Any] = {"optimizer": name, "lr": lr}
    if name == "momentum":
        how = {"optimizer": "sgd", "momentum": 0.9, "lr": lr}
    steps = max(1, round(length * draw.choice((1.0, 1.0, 0.5, 0.25))))
    problem = sick.problem
    try:
        if draw.random() < 0.5:
            problem = problem.edit(StandardiseInputs())
        if draw.random() < 0.5:
            problem = problem.edit(StandardiseTargets())
    except DownslopeError:
        problem = sick.problem
    kept = {"batch_size": sick.recipe.batch_size, "seed": sick.recipe.seed}
    if sick.recipe.weight_decay:
        kept["weight_decay"] = sick.recipe.weight_decay
    return Setup(problem, ds.Recipe(**how, **kept, steps=steps))


def _validated(trial: Setup) -> float | None:
    """The problem's own validation score, as a user's search would see it."""
    try:
        return outcome.train(Setup(trial.problem, trial.recipe))[0].score
    except Exception:  # noqa: BLE001 (a trial that fails is a bad trial)
        return None
