"""Where a run ended: loss and metric of its last model on both parts, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from downslope.core.adapted import unwrap
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.core.sources import Memory
from downslope.diagnosis.measure import alike
from downslope.training.evaluate import evaluate

CHUNK = 32
"""Examples a batch, so that the spread over batches gives a standard error."""


def measure(
    run: Run, problem: Problem, train: Memory, valid: Memory | None, rows: int | None = None
) -> dict[str, Any]:
    """The last model of `run` under the objective and the metric of `problem`, in the user's units.

    Args:
        run: A finished run; its own problem may carry edits.
        problem: Whose objective and metric count.
        train: Training examples to score on.
        valid: Validation examples, or None.
        rows: Examples a batch where the objective is a sum over the batch.

    Returns:
        ``train_loss``, ``train_metric``, ``train_stderr``, ``train_n``; the same for ``valid``; and
        ``best_valid_loss``, ``best_valid_metric`` over the epochs (of the last model where not recorded);
        and ``alike``, what became of units that started alike (`alike.still`).
    """
    model = run.model("last")
    begun: Mapping[str, Any] = run.facts.get("start") or {}
    found: dict[str, Any] = {
        "steps": run.summary.get("steps"),
        "alike": alike.still(begun.get("layers") or (), (unwrap(model),)),
    }
    for part, source in (("train", train), ("valid", valid)):
        if source is None:
            continue
        seen = evaluate(problem, model, source, batch_size=rows or CHUNK)
        found |= {
            f"{part}_loss": _finite(seen.loss),
            f"{part}_metric": _finite(seen.metric),
            f"{part}_stderr": _finite(seen.stderr),
            f"{part}_n": seen.n,
        }
    if valid is not None:
        found["best_valid_loss"] = _best(run, "valid_loss", problem.maximize, found["valid_loss"])
        higher = problem.direction == "max"
        if problem.metric is not None:
            found["best_valid_metric"] = _best(run, "valid_metric", higher, found["valid_metric"])
    return found


def of_summary(run: Run) -> dict[str, Any] | None:
    """The same of the model that `run` hands out, read off its summary, which knows no standard errors.

    Returns:
        The same, and ``scored_step``: that model stood at this step, before the end where it is the best.
        None for a run that was never summed up.
    """
    said, sizes = run.summary, run.described
    if said.get("train_loss") is None:
        return None
    found: dict[str, Any] = {"steps": said.get("steps"), "scored_step": said.get("best_step")}
    for part in ("train", "valid"):
        if said.get(f"{part}_loss") is not None:
            found |= {f"{part}_{key}": _finite(said.get(f"{part}_{key}")) for key in ("loss", "metric")}
            found |= {f"{part}_stderr": None, f"{part}_n": sizes.get(part)}
    if "valid_loss" in found:
        found["best_valid_loss"] = _best(run, "valid_loss", run.maximize, found["valid_loss"])
        if found["valid_metric"] is not None:
            found["best_valid_metric"] = _best(run, "valid_metric", run.metric_up, found["valid_metric"])
    return found


def _best(run: Run, column: str, higher: bool, last: float | None) -> float | None:
    """The best value over the epochs, the last model's own where that is better; the start does not count."""
    series = run.history.series(column)
    values = series.values[(series.steps > 0) & np.isfinite(series.values)]
    known = [*values.tolist(), *([last] if last is not None else [])]
    if not known:
        return None
    return max(known) if higher else min(known)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
