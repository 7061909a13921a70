"""Paired trials: the same seed, the same batches, the same number of steps, one thing changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.core.edits import Edit, SetObjective
from downslope.core.errors import DownslopeError
from downslope.core.fixed_sample import Held
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.chance import chance
from downslope.diagnosis.measure.ending import measure as ending
from downslope.diagnosis.progress import smoothed
from downslope.diagnosis.swing import thrown_back
from downslope.training.facts import constant as guess
from downslope.training.facts import one_line
from downslope.training.fit import fit
from downslope.training.hushed import hushed
from downslope.training.targets import reported

Scores = dict[str, Any]


@reported()
@hushed()
def train(problem: Problem, recipe: Recipe, steps: int | None, seconds: float | None = None) -> Run:
    """A run in memory, without probes, cut to `steps` and to `seconds` where given.

    Raises:
        KeyboardInterrupt: Ctrl-C: half a run is no trial.
    """
    cut = (recipe if steps is None else recipe.edit(steps=steps)).edit(patience=None)
    run = fit(problem, cut, folder=False, progress=False, observe=0.0, seconds=seconds)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    return run


def attempt(
    problem: Problem,
    recipe: Recipe,
    edit: Edit | None,
    steps: int | None,
    held: Held,
    seconds: float | None = None,
) -> Scores:
    """Train with `edit` for `steps` steps and score the result as the untouched problem would.

    Returns:
        ``loss``, ``metric``, ``valid_loss``, ``valid_metric`` (the best over the epochs), ``status``,
        ``steps``; ``renewed``, the same by the edit's objective where that is another; or ``error`` where the
        edit does not fit, or only ``status`` "cut" where `seconds` ran out.
    """
    try:
        own, how = (problem, recipe) if edit is None else edit.apply(problem, recipe)
        run = train(own, how, steps, seconds)
        if "cut" in run.facts:
            return {"status": "cut"}
        same = own.objective is problem.objective
        found = score(run, problem, held, comparable=same)
        return found if same or found["loss"] is None else found | {"renewed": ending(run, own, *held)}
    except DownslopeError as error:
        return {"error": one_line(error)}
    except Exception as error:  # noqa: BLE001 (an edit can bring anybody's code to a shape it does not take)
        return {"error": one_line(error)}


def score(run: Run, problem: Problem, held: Held, *, comparable: bool) -> Scores:
    """What a run reached, by the objective and metric of `problem`.

    Args:
        run: Finished.
        problem: Whose objective counts.
        held: Training and validation examples to score on.
        comparable: Whether the run's own loss column is in the units of that objective.
    """
    if run.status == "diverged":
        return {"loss": None, "metric": None, "valid_loss": None, "valid_metric": None,
                "status": run.status, "steps": run.summary.get("steps")}  # fmt: skip
    found = ending(run, problem, *held)
    losses = [found["train_loss"]] + ([smoothed(run)] if comparable else [])
    known = [each for each in losses if each is not None and math.isfinite(each)]
    pick = max if problem.maximize else min
    return {
        "loss": pick(known) if known else None,
        "metric": found["train_metric"],
        "valid_loss": found.get("best_valid_loss" if comparable else "valid_loss"),
        "valid_metric": found.get("best_valid_metric"),
        "last_valid_loss": found.get("valid_loss"),
        "last_valid_metric": found.get("valid_metric"),
        "status": run.status,
        "steps": run.summary.get("steps"),
        "comparable": comparable,
    }


def control_at(run: Run, steps: int | None) -> Scores:
    """What the untouched run had reached after `steps` steps, from its history; at its end where None."""
    total = int(run.summary.get("steps") or 0)
    ended: Mapping[str, Any] = run.facts.get("ending") or {}
    diverged = run.status == "diverged" and (steps is None or total < steps)
    if diverged:
        return {"loss": None, "metric": None, **_best_valid(run, total)}
    if steps is None or steps >= total:
        losses = [ended.get("train_loss"), smoothed(run)]
        known = [each for each in losses if each is not None and math.isfinite(each)]
        pick = max if run.problem is not None and run.problem.maximize else min
        return {
            "loss": pick(known) if known else None,
            "metric": ended.get("train_metric"),
            "valid_loss": ended.get("best_valid_loss"),
            "valid_metric": ended.get("best_valid_metric"),
        }
    return {"loss": smoothed(run, steps), "metric": None, **_best_valid(run, steps)}


def _best_valid(run: Run, until: int) -> Scores:
    problem = run.problem
    found: Scores = {}
    for column in ("valid_loss", "valid_metric"):
        series = run.history.series(column)
        values = series.values[(series.steps > 0) & (series.steps <= until) & np.isfinite(series.values)]
        higher = problem is not None and (
            problem.maximize if column == "valid_loss" else problem.direction == "max"
        )
        found[column] = None if not len(values) else float(values.max() if higher else values.min())
    return found


def compare(run: Run, trial: Scores, steps: int | None) -> Scores:
    """The trial beside the control: shares of the way from the best constant to what was reached.

    Returns:
        ``share`` by the training loss, ``valid_share`` by the validation metric (the loss without one; None
        without validation data), of the best epochs, or of the last where the run was thrown back; 0
        where neither of the two came further from a constant than chance may take it.
    """
    control = control_at(run, steps)
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    start: Mapping[str, Any] = run.facts.get("start") or {}
    problem = run.problem
    sign = -1.0 if problem is not None and problem.maximize else 1.0
    base = constant.get("loss") if constant.get("loss") is not None else start.get("loss")
    others = [each.get("loss") for each in run.facts.get("references") or ()]
    share = _recovered(sign, base, control["loss"], trial.get("loss"), others)
    if not trial.get("comparable", True) and trial.get("metric") is not None:
        guess, own = constant.get("metric"), control.get("metric")
        higher = problem is not None and problem.direction == "max"
        # A run that left the finite numbers has no score: it came no further than a constant guess.
        if guess is not None and (own is not None or control["loss"] is None):
            share = _recovered(-1.0 if higher else 1.0, guess, own, trial["metric"], [])
    valid: float | None = None
    key = "valid_metric" if trial.get("valid_metric") is not None else "valid_loss"
    if trial.get(key) is not None and constant.get(key) is not None:
        up = problem is not None and (
            problem.direction == "max" if key == "valid_metric" else problem.maximize
        )
        before, after = control.get(key), trial[key]
        if steps is None and trial.get(f"last_{key}") is not None and thrown_back(run):
            last: Mapping[str, Any] = run.facts.get("ending") or {}
            before, after = last.get(key), trial[f"last_{key}"]
        least = chance(run, key.removeprefix("valid_"))
        valid = _recovered(-1.0 if up else 1.0, constant[key], before, after, [], least)
    return {"share": share, "valid_share": valid}


def by_the_new(
    run: Run, problem: Problem, recipe: Recipe, edit: SetObjective, trial: Scores, held: Held
) -> Scores:
    """A trial beside its control by the objective that `edit` puts in, as `compare` gives it.

    An objective that does not measure what is wanted (one that takes a probability for a score, one that
    compares every output with every target) cannot say what another wins. With a metric that one says it.
    """
    own = problem.edit(edit)
    base: Mapping[str, Any] = guess.measure(own, recipe) or {}
    before, after = ending(run, own, *held), trial["renewed"]
    sign = -1.0 if own.maximize else 1.0
    share = _recovered(sign, base.get("loss"), before["train_loss"], after["train_loss"], [])
    if "valid_loss" not in after:
        return {"share": share, "valid_share": None}
    valid = _recovered(sign, base.get("valid_loss"), before["valid_loss"], after["valid_loss"], [])
    return {"share": share, "valid_share": valid}


def _recovered(
    sign: float,
    base: float | None,
    control: float | None,
    trial: float | None,
    others: list[Any],
    least: float = 0.0,
) -> float:
    """(control - trial) / (base - reachable), the control no worse than the base; lower is better.

    0 where nothing is reachable by more than `least` below the base: a share of next to nothing is noise.
    """
    if base is None or trial is None or not math.isfinite(trial):
        return 0.0
    base, trial = sign * base, sign * trial
    before = base if control is None or not math.isfinite(control) else min(sign * control, base)
    reach = min([trial, before, *(sign * each for each in others if each is not None)])
    return (before - trial) / (base - reach) if base - reach > least else 0.0
