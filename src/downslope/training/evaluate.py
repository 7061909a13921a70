"""Objective and metric on a whole part of the data, in eval mode, without gradients."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.class_targets import IGNORED
from downslope.core.counted import counts
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, told
from downslope.core.loss import Loss, Objective
from downslope.core.memory import out_of_memory
from downslope.core.outputs import measured_by
from downslope.core.problem import Problem
from downslope.core.sources import MOST_STREAMED, Memory, Source
from downslope.objectives.metrics import ByTask
from downslope.training.hints import hint
from downslope.training.spread import Over, Spread, metric_stderr
from downslope.training.streams import tell_cut

_log = logging.getLogger("downslope")

BATCH = 1024
"""Examples a forward pass in evaluation, for data in memory."""


class Evaluation(NamedTuple):
    """A model on a part of the data."""

    loss: float
    """The objective in the user's units, mean over examples."""
    metric: float | None
    """The metric over all outputs joined in stored order; None where the problem has none."""
    n: int
    """Number of examples."""
    stderr: float
    """Standard error of `loss`, ``s / sqrt(n)`` over examples; NaN where it is not known."""
    over: Over | None = None
    """What `stderr` is taken over: "examples", or "batches" where the objective is no mean over examples."""
    metric_stderr: float = math.nan
    """Standard error of `metric` over examples; NaN where it is no mean over them."""
    terms: Mapping[str, float] = {}
    """Named terms of the objective, means over examples."""
    by_task: Mapping[str, tuple[float, float]] = {}
    """Of a metric for each of several tasks, column to its value and the standard error of it."""

    def columns(self, part: str) -> dict[str, float]:
        """The values of `by_task` as a run records them: ``valid_digit_accuracy``."""
        return {f"{part}_{column}": value for column, (value, _) in self.by_task.items()}


class Scored(NamedTuple):
    """A metric over all examples; fields are those of `Evaluation`."""

    value: float | None = None
    stderr: float = math.nan
    by_task: Mapping[str, tuple[float, float]] = {}


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """A block in eval mode without gradients; every module's own mode comes back after."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    problem: Problem,
    model: nn.Module,
    source: Source | None = None,
    device: torch.device | None = None,
    *,
    batch_size: int = BATCH,
    objective: Objective | None = None,
    errors: bool = True,
    tell: Callable[[int], object] | None = None,
) -> Evaluation:
    """The objective and the metric of `model` on `source`.

    Args:
        problem: Its objective, metric and split count.
        model: Any mode; it comes back in the same.
        source: A part of the data; the training part if left out.
        device: Where the model is; read off its parameters if left out.
        batch_size: Examples a forward pass, for data in memory.
        objective: The problem's objective, if it is at hand.
        errors: Whether standard errors are wanted too.
        tell: Called after each batch with the number of examples by then.

    Returns:
        Loss, metric, number of examples, standard errors. The loss is the risk: penalties are no part of it.

    Raises:
        DataError: there is no batch.
        ModelError: model or objective cannot take a batch.
        InputError: the metric fails or gives no number.
    """
    objective = objective or Objective(problem)
    source = source or problem.train_source
    parameter = next(model.parameters(), None)
    where = device or (parameter.device if parameter is not None else torch.device("cpu"))
    dtype = parameter.dtype if parameter is not None else None
    losses: list[tuple[Tensor, int]] = []
    counted, masses = counts(objective.function), list[float]()
    spread = Spread(objective if errors else None)
    outputs: list[Any] = []
    targets: list[Any] = []
    terms: dict[str, list[Tensor]] = {}
    with evaluating(model):
        endless = source.steps(batch_size) is None
        for batch in itertools.islice(source.stored(batch_size), MOST_STREAMED if endless else None):
            moved = batches.to(batch, where, dtype)
            try:
                loss = _forward(problem, objective, model, moved)
            except ModelError as error:
                fewer = _fewer(error, source, moved, told=errors)
                return evaluate(
                    problem, model, source, where, batch_size=fewer, objective=objective, errors=errors,
                    tell=tell,
                )  # fmt: skip
            losses.append((objective.sign * loss.value.detach(), batches.length(moved)))
            size = losses[-1][1]
            masses.append(size if counted is None else counted.count(loss.target, size))
            spread.see(loss)
            for name, term in loss.terms.items():
                terms.setdefault(name, []).append(term.detach().reshape(()))
            if problem.metric is not None:
                outputs.append(measured_by(problem.metric, loss.made, size))
                targets.append(loss.target)
            if tell is not None:
                tell(sum(count for _, count in losses))
        if endless and len(losses) == MOST_STREAMED:
            tell_cut(source, sum(count for _, count in losses))
        each_of = [count for _, count in losses]
        scored = _scored(problem, outputs, targets, each_of, errors=errors) if outputs else Scored()
    if not losses:
        raise DataError(
            "the data gave no batch to evaluate on: it is empty, or it was read already: __iter__ must begin "
            "anew each time"
        )
    values = torch.stack([value for value, _ in losses]).double().cpu()
    sizes = torch.tensor([float(count) for _, count in losses], dtype=torch.float64)
    share = torch.tensor(masses, dtype=torch.float64) if any(masses) else sizes
    share = share / share.sum()
    mean = _mean(values, share)
    stderr, over = spread.of(values, sizes, share) if errors else (math.nan, None)
    means = {
        name: _mean(torch.stack(each).double().cpu(), share)
        for name, each in terms.items()
        if len(each) == len(share)
    }
    return Evaluation(
        mean, scored.value, int(sizes.sum()), stderr, over, scored.stderr, means, scored.by_task
    )


def _fewer(error: ModelError, source: Source, batch: Any, *, told: bool) -> int:
    """Half as many examples, where memory ended; else what was raised."""
    size, cause = batches.length(batch), error.__cause__
    if size < 2 or not isinstance(source, Memory) or cause is None or not out_of_memory(cause):
        raise error
    if told:
        _log.warning("out of memory: evaluated on %d examples at a time", size // 2)
    return size // 2


def _mean(values: Tensor, share: Tensor) -> float:
    """The sum of values times shares; a batch of which nothing counts has no value and no share."""
    return float(torch.where(share > 0, values * share, 0.0).sum())


def check_ending(problem: Problem, model: nn.Module, batch: Any, source: Source) -> None:
    """Refuse before a run without validation data what would fail at its end.

    Args:
        problem: Its objective and metric.
        model: On the device of `batch`; left as it is, and so is torch's generator.
        batch: A training batch. Where the metric fails on it, all of `source` decides: a metric may want
            more classes than one batch holds.
        source: The training data.

    Raises:
        ModelError: model or objective cannot take a batch in eval mode.
        InputError: the metric fails or gives no number.
    """
    objective = Objective(problem)
    with torch.random.fork_rng(devices=[]), evaluating(model):
        loss = _forward(problem, objective, model, batch)
        try:
            if problem.metric is not None:
                made = measured_by(problem.metric, loss.made, batches.length(batch))
                _scored(problem, [made], [loss.target], errors=False)
        except InputError:
            evaluate(problem, model, source, objective=objective)


def _forward(problem: Problem, objective: Objective, model: nn.Module, batch: Any) -> Loss:
    try:
        return objective.raw(model, batch)
    except DownslopeError:
        raise
    except Exception as error:
        shapes = [tuple(each.shape) for each in batches.tensors(batch)]
        raise ModelError(
            f"in eval mode a batch of shapes {shapes} cannot be put through the model and objective "
            f"{objective.label}: {told(error)}{hint(error, problem, batch)}{_unlike(problem, batch)}"
        ) from error


def _unlike(problem: Problem, batch: Any) -> str:
    """That the examples have other shapes than those of training, where both are at hand and they do."""
    if not isinstance(problem.train_source, Memory):
        return ""
    here, there = (
        [tuple(leaf.shape[1:]) for leaf in batches.tensors(each)]
        for each in (batch, problem.train_source.batch)
    )
    if here == there:
        return ""
    return f"; its examples have shapes {here}, those of training {there}: both parts need the same"


def _left_out(problem: Problem, target: Any) -> Any:
    """Targets that the objective leaves out by another index, as the metrics here leave them out."""
    index = getattr(problem.objective, "ignore_index", IGNORED)
    ours = str(getattr(problem.metric, "__module__", "")).startswith("downslope.objectives")
    if not ours or not isinstance(index, int) or index == IGNORED or not isinstance(target, Tensor):
        return target
    return target if target.is_floating_point() else torch.where(target == index, IGNORED, target)


def _scored(
    problem: Problem,
    outputs: list[Any],
    targets: list[Any],
    sizes: list[int] | None = None,
    *,
    errors: bool,
) -> Scored:
    metric: Any = problem.metric
    try:
        output = batches.join(outputs, sizes)
        target = batches.join(targets) if targets[0] is not None else None
        if not isinstance(metric, ByTask):
            target = _left_out(problem, target)
            value = float(metric(output, target))
            return Scored(value, metric_stderr(metric, output, target) if errors else math.nan)
        each = metric.each(output, target)
        by_task = {
            metric.columns[task]: (
                value,
                metric_stderr(metric.metrics[task], *metric.of(task, output, target)) if errors else math.nan,
            )
            for task, value in each.items()
        }
        error = metric_stderr(metric, output, target) if errors else math.nan
        return Scored(metric.mean(each), error, by_task)
    except InputError:
        raise
    except Exception as error:
        shapes = [tuple(each.shape) for each in batches.tensors(outputs[0])]
        raise InputError(f"the metric failed on outputs of shape {shapes}: {told(error)}") from error
