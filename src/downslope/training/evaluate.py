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

    @property
    def measure(self) -> float:
        """What one cares for: the metric; without one the loss."""
        return self.loss if self.metric is None else self.metric

    def columns(self, part: str) -> dict[str, float]:
        """The values of `by_task` as a run records them: ``valid_digit_accuracy``."""
        return {f"{part}_{column}": value for column, (value, _) in self.by_task.items()}


def validated(found: Evaluation, step: int) -> dict[str, float]:
    """The row that the history of a run gets for an evaluation on validation data after `step` steps."""
    row = {f"valid_{name}": value for name, value in found.terms.items()} | found.columns("valid")
    row["valid_loss"] = found.loss
    if found.metric is not None:
        row["valid_metric"] = found.metric
    return {**row, "valid_step": float(step)}


class Scored(NamedTuple):
    """A metric over all examples; fields are those of `Evaluation`."""

    value: float | None = None
    stderr: float = math.nan
    by_task: Mapping[str, tuple[float, float]] = {}


class Tally:
    """The batches of one part of the data, as one model is measured on them, in stored order.

    Args:
        problem: Its metric.
        objective: Of the problem.
        errors: Whether standard errors are wanted too.
    """

    def __init__(self, problem: Problem, objective: Objective, *, errors: bool = True) -> None:
        self.problem, self.objective, self.errors = problem, objective, errors
        self.batches = self.seen = 0
        self._counted = counts(objective.function)
        self._spread = Spread(objective if errors else None)
        self._values: list[Tensor] = []
        self._sizes: list[int] = []
        self._masses: list[float] = []
        self._outputs: list[Any] = []
        self._targets: list[Any] = []
        self._terms: dict[str, list[Tensor]] = {}

    def see(self, loss: Loss, size: int, each: Tensor | None = None) -> None:
        """Take in one batch.

        Args:
            loss: What `Objective.raw` gives for it, in the user's units.
            size: Of how many examples.
            each: Their losses, shape (size,), where they are at hand and each of them counts the same.
        """
        self._values.append(self.objective.sign * loss.value.detach())
        self._sizes.append(size)
        self.batches += 1
        self.seen += size
        counted = self._counted if each is None else None
        self._masses.append(size if counted is None else counted.count(loss.target, size))
        self._spread.see(loss, each)
        for name, term in loss.terms.items():
            self._terms.setdefault(name, []).append(term.detach().reshape(()))
        if self.problem.metric is not None:
            self._outputs.append(measured_by(self.problem.metric, loss.made, size))
            self._targets.append(loss.target)

    def result(self, scored: Scored | None = None) -> Evaluation:
        """All batches together.

        Args:
            scored: The metric of all of them, where it is at hand.

        Raises:
            DataError: there was no batch.
            InputError: the metric fails or gives no number.
        """
        if scored is None:
            scored = Scored()
        elif self._values:
            self._outputs = []
        if self._outputs:
            scored = _scored(self.problem, self._outputs, self._targets, self._sizes, errors=self.errors)
        if not self._values:
            raise DataError(
                "the data gave no batch to evaluate on: it is empty, or it was read already: __iter__ must "
                "begin anew each time"
            )
        if len(self._values) == 1 and not self.errors:
            alone = {name: float(each[0]) for name, each in self._terms.items()}
            found = scored.value, self.seen, math.nan, None, scored.stderr, alone, scored.by_task
            return Evaluation(float(self._values[0]), *found)
        values = torch.stack(self._values).double().cpu()
        sizes = torch.tensor(self._sizes, dtype=torch.float64)
        share = torch.tensor(self._masses, dtype=torch.float64) if any(self._masses) else sizes
        share = share / share.sum()
        mean = _mean(values, share)
        stderr, over = self._spread.of(values, sizes, share) if self.errors else (math.nan, None)
        means = {
            name: _mean(torch.stack(each).double().cpu(), share)
            for name, each in self._terms.items()
            if len(each) == len(share)
        }
        return Evaluation(mean, scored.value, self.seen, stderr, over, scored.stderr, means, scored.by_task)


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
    tally = Tally(problem, objective, errors=errors)
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
            tally.see(loss, batches.length(moved))
            if tell is not None:
                tell(tally.seen)
        if endless and tally.batches == MOST_STREAMED:
            tell_cut(source, tally.seen)
        return tally.result()


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
