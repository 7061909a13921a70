"""Outcomes: what a run reached, on the way from the best constant prediction to the healthy twin.

None of it is what a diagnosis uses: a constant is a mean or the majority, a score is read off the history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import downslope as ds
from bench.diagnosis.fault import Judged, Setup, Sick
from downslope.core.errors import DownslopeError
from downslope.core.run import Run
from downslope.training.evaluate import evaluate

HARMFUL = 0.8
"""A fault is harmful where less than this share of the twin's way is covered."""

WORST = -9.0
"""Below this a share is not told apart."""

LEARNS = 0.25
"""A twin is healthy where it covers at least this share of the way from a constant to a perfect metric."""


@dataclass(frozen=True)
class Outcome:
    score: float | None
    """Higher is better; None for a run that was refused, or left the finite numbers in its first epoch."""
    status: str
    seconds: float


def train(setup: Setup) -> tuple[Outcome, Run | None]:
    """Train as it stands, with nothing observed."""
    try:
        run = ds.fit(setup.problem, setup.recipe, folder=False, progress=False, observe=0.0)
    except DownslopeError as error:
        return Outcome(None, f"refused: {error}"[:200], 0.0), None
    judged: Judged = setup.judged if isinstance(setup, Sick) else "metric"
    judge = setup.judge if isinstance(setup, Sick) else None
    value = score(run, setup.problem, judged, judge)
    return Outcome(value, run.status, float(run.summary.get("seconds") or 0.0)), run


def score(
    run: Run, problem: ds.Problem, judged: Judged = "metric", judge: ds.Problem | None = None
) -> float | None:
    """The best validation metric of a run (or the last, or the last loss), turned so that higher is better.

    A run that left the finite numbers is lost, whatever it had reached before.
    """
    if run.status == "diverged":
        return None
    if judge is not None:
        return scored_by(judge, run.model(), judged)
    column, sign = "valid_loss", 1.0 if problem.maximize else -1.0
    if judged != "last loss" and problem.metric is not None:
        column, sign = "valid_metric", 1.0 if problem.direction == "max" else -1.0
    series = run.history.series(column)
    values = [sign * float(v) for step, v in zip(series.steps, series.values, strict=True) if step > 0]
    if not values and problem.valid_source is None and judged != "last loss":
        values = _on_training(run, problem)
    if not values:
        return None
    value = (
        max((v for v in values if math.isfinite(v)), default=math.nan) if judged == "metric" else values[-1]
    )
    return value if math.isfinite(value) else None


def _on_training(run: Run, problem: ds.Problem) -> list[float]:
    """The metric of the last model on the training part, where nothing is held out."""
    if problem.metric is None:
        return []
    value = float(run.summary["train_metric"])
    return [value if problem.direction == "max" else -value]


def scored_by(judge: ds.Problem, model: Any, judged: Judged = "metric") -> float | None:
    """The score of a model on another problem's validation data."""
    found = evaluate(judge, model, judge.valid_source)
    if judged == "last loss" or found.metric is None:
        return -found.loss if math.isfinite(found.loss) else None
    return found.metric if judge.direction == "max" else -found.metric


def constant(problem: ds.Problem, judged: Judged = "metric") -> float | None:
    """The score of the best constant prediction, on the validation part if there is one."""
    target = _targets(problem.train_source)
    held = _targets(problem.valid_source or problem.train_source)
    if not isinstance(target, Tensor):
        return None
    found: list[float] = []
    for row in _rows(target, problem):
        output = _given_to_all(row, held)
        try:
            if judged != "last loss" and problem.metric is not None:
                value = float(problem.metric(output, held))
                found.append(value if problem.direction == "max" else -value)
            elif problem.objective is not None:
                said = problem.objective(output, held)
                value = float(sum(said.values()) if isinstance(said, dict) else said)
                found.append(value if problem.maximize else -value)
        except (RuntimeError, ValueError, DownslopeError):
            continue
    finite = [each for each in found if math.isfinite(each)]
    return max(finite) if finite else None


def _given_to_all(row: Tensor, held: Tensor) -> Tensor:
    """`row` for every target; scores of classes stand before the pixels or words that have one."""
    if held.dtype != torch.int64:
        return row.expand(len(held), *row.shape).clone()
    places = held.shape[1:]
    return row.reshape(1, -1, *(1 for _ in places)).expand(len(held), len(row), *places).clone()


def _targets(source: Any) -> Any:
    batch = next(iter(source.stored(1_000_000)))
    return batch["labels"] if isinstance(batch, dict) else batch[-1]


def _rows(target: Tensor, problem: ds.Problem) -> list[Tensor]:
    """Constant outputs that could be the best: means, medians, log-odds, the majority, all yes, all no."""
    if target.dtype == torch.int64:
        share = torch.bincount(target.flatten()).float() / target.numel()
        return [(share + 1e-6).log()]
    y = target.float()
    rows = [y.mean(0), y.median(0).values]
    if y.min() >= 0 and y.max() <= 1:
        odds = torch.logit(y.mean(0).clamp(1e-6, 1 - 1e-6))
        rows += [odds, torch.full_like(y[0], 9.0), torch.full_like(y[0], -9.0)]
    del problem
    return rows


def share(value: float | None, base: float | None, twin: float | None) -> float:
    """Share of the twin's way that was covered; 0 for a run that was lost."""
    if value is None or base is None or twin is None or twin <= base:
        return 0.0
    return max((value - base) / (twin - base), WORST)


def learns(twin: float | None, base: float | None, problem: ds.Problem) -> bool | None:
    """Whether a twin learnt enough for its fault to be seen; None where no constant is known to compare."""
    if twin is None:
        return problem.valid_source is None and problem.metric is None
    if base is None:
        return None
    bounded = getattr(problem.metric, "__name__", "") in ("accuracy", "f1", "auc", "r2")
    return twin - base >= LEARNS * (1.0 - base) if bounded else twin > base
