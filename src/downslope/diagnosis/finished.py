"""A finished run, diagnosed without a step: from its records, and from its problem where it is at hand."""

from __future__ import annotations

import time
from typing import Any

from downslope.core.errors import DownslopeError, RunFolderError
from downslope.core.fixed_sample import scored
from downslope.core.method import Lost, is_named
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import (
    affine,
    ending,
    flow,
    lags,
    mixed,
    objective,
    order,
    prepared,
    start,
    summed,
)
from downslope.diagnosis.settings import clips_of
from downslope.training.facts import constant, data, output, record
from downslope.training.optimizer import build_optimizer

FACTS = (
    "data", "order", "features", "output", "objective", "flow", "affine", "mixed", "lags", "start",
    "constant",
)  # fmt: skip
"""What is told of a problem without a step."""


def diagnose_run(run: Run) -> Diagnosis:
    """The diagnosis of a finished run; what could not be looked at is named with the reason.

    Raises:
        RunFolderError: its history was cut: half of it would be judged as the whole.
    """
    if cut := run.facts.get("cut_short"):
        raise RunFolderError(f"{cut}, and half a history is no run to judge; fit again")
    begun = time.monotonic()
    if run.recipe is not None:
        problem = _at_hand(run)
        if problem is not None:
            look(run, problem, run.recipe)
        if "ending" not in run.facts and run.status != "diverged":
            if problem is not None:
                held = scored(problem, rows=summed.rows(run, problem, run.recipe))
                record(run, "ending", lambda: ending.measure(run, problem, *held))
                record(run, "shift", lambda: prepared.measure(run, problem, *held[:2]))
            if "ending" not in run.facts and (said := ending.of_summary(run)) is not None:
                run.facts["ending"] = said
    result = judge(run)
    if run.status == "interrupted":
        how = "killed" if run.facts.get("killed") else "interrupted"
        at = f"The run was {how} at step {run.summary.get('steps')}"
        result.notes.append(f"{at}: judged is what was recorded until then, not how it would have ended.")
    result.seconds = time.monotonic() - begun
    return result


def _at_hand(run: Run) -> Problem | None:
    """The run's problem, as given or found again; None, and the reason noted, where neither can be."""
    try:
        return run.the_problem()
    except DownslopeError as error:
        missing: dict[str, str] = run.facts.setdefault("not_measured", {})
        for name in FACTS:
            missing.setdefault(name, str(error))
        return None


def _clips(problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """What an optimizer clips by itself that is made by code."""
    if is_named(recipe.optimizer) or isinstance(recipe.optimizer, Lost):
        return None
    return clips_of(build_optimizer(recipe, problem.build(recipe.seed, recipe.init)))


def look(run: Run, problem: Problem, recipe: Recipe) -> None:
    """Put into ``run.facts`` what can be told of `problem` without a step, where it is not there yet."""
    for name, measured in (
        ("data", lambda: data.measure(problem)),
        ("order", lambda: order.measure(problem)),
        ("features", lambda: data.features(problem)),
        ("output", lambda: output.measure(problem, recipe)),
        ("objective", lambda: objective.measure(run, problem, recipe)),
        ("clips", lambda: _clips(problem, recipe)),
        ("flow", lambda: flow.measure(problem, recipe)),
        ("affine", lambda: affine.measure(run, problem, recipe)),
        ("mixed", lambda: mixed.measure(problem, recipe)),
        ("lags", lambda: lags.measure(problem, recipe)),
        ("start", lambda: start.measure(problem, recipe)),
        ("constant", lambda: constant.measure(problem, recipe)),
    ):
        if name not in run.facts:
            record(run, name, measured)
            if name == "constant":
                summed.rescale(run, problem, recipe)
