"""Bias and variance of a run: overall, and class by class or region by region, where both may be large."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.errors import DataError, DownslopeError, InputError, told
from downslope.core.loss import Objective
from downslope.core.outputs import measured_by
from downslope.core.problem import Problem
from downslope.core.run import Run, Which
from downslope.core.sources import MOST_STREAMED, Source
from downslope.training.evaluate import BATCH, evaluating
from downslope.training.measures import rows_of

By = Callable[[Any, Any], Any]
Each = Callable[[Any, Any], Tensor]
Larger = Literal["bias", "variance", "both", "neither", "not known"]

SURE = 2.0
"""Standard errors from which a bias or a variance counts as seen."""

MOST_GROUPS = 60
"""Classes or regions up to which each has a row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Errors of one group of examples; each with its standard error.

    Attributes:
        group: "all", or the class or region.
        train: Error on training examples, and its standard error.
        valid: The same on validation examples.
        train_n: Training examples.
        valid_n: Validation examples.
        achievable: The error that can be achieved; None where nobody said.
    """

    group: str
    train: tuple[float, float]
    valid: tuple[float, float]
    train_n: int
    valid_n: int
    achievable: float | None

    @property
    def bias(self) -> float | None:
        """Training error minus the achievable one; None without that."""
        return None if self.achievable is None else self.train[0] - self.achievable

    @property
    def variance(self) -> float:
        """Validation error minus training error."""
        return self.valid[0] - self.train[0]

    @property
    def variance_stderr(self) -> float:
        """Of the difference of two independent means."""
        return math.hypot(self.train[1], self.valid[1])

    @property
    def larger(self) -> Larger:
        """What stands out of its standard error; of two that do, the other too if it is half as large."""
        variance = self.variance if self.variance > SURE * self.variance_stderr else 0.0
        if self.bias is None:
            return "variance" if variance > 0 else "not known"
        bias = self.bias if self.bias > SURE * self.train[1] else 0.0
        if not (bias or variance):
            return "neither"
        if min(bias, variance) > max(bias, variance) / 2:
            return "both"
        return "bias" if bias > variance else "variance"


@dataclass(frozen=True, kw_only=True)
class BiasVariance:
    """``validation error = achievable + bias + variance``, with a row for all and one for each group.

    Attributes:
        measure: What the errors are: "error", "mse", "mae" or "loss".
        all: Over all examples.
        groups: By class or region, the largest validation error first.
    """

    measure: str
    all: Row
    groups: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file or a machine."""
        return {"measure": self.measure, "rows": [_plain(each) for each in (self.all, *self.groups)]}

    def __str__(self) -> str:
        width = max(5, *(len(each.group) for each in (self.all, *self.groups)))
        head = (
            f"{'group':<{width}}  {'train ' + self.measure:>18}  {'valid ' + self.measure:>18}  "
            f"{'bias':>9}  {'variance':>18}  larger"
        )
        return "\n".join([head, *(self._line(each, width) for each in (self.all, *self.groups))])

    def _line(self, row: Row, width: int) -> str:
        bias = "-" if row.bias is None else f"{row.bias:.3g}"
        return (
            f"{row.group:<{width}}  {_pm(*row.train):>18}  {_pm(*row.valid):>18}  {bias:>9}  "
            f"{_pm(row.variance, row.variance_stderr):>18}  {row.larger}"
        )


def bias_variance(
    run: Run,
    *,
    achievable: float | Mapping[Any, float] | None = None,
    by: By | tuple[Any, Any] | None = None,
    which: Which | None = None,
) -> BiasVariance:
    """Where the error of a run comes from: bias against what is achievable, variance against held-out data.

    Args:
        run: Finished, of a problem with validation data.
        achievable: The error that can be achieved (Bayes, a human, an older model), in the unit of the table:
            of an accuracy the share of errors; or one for each group. Left out: what the goal allows.
        by: The groups: a function ``(inputs, target) -> label of every example``, or the labels of the
            training and of the validation examples. Left out: the classes, where the target is one; of
            measurements the quarters of the target.
        which: Whose weights, as in `Run.model`.

    Returns:
        The table; `Row.larger` names what stands out.

    Raises:
        DataError: no validation data.
        InputError: more groups than can be read, or labels that do not fit the examples.

    Example:
        >>> print(ds.bias_variance(run))  # doctest: +SKIP
    """
    problem = run.the_problem()
    if problem.valid_source is None:
        raise DataError("variance is seen on validation data, and this problem has none: give valid=")
    name, each, allowed = rows_of(problem)
    model = run.model(which)
    parts = [
        _measured(problem, model, source, each, by if callable(by) else None)
        for source in (problem.train_source, problem.valid_source)
    ]
    labels = [part[1] for part in parts]
    if by is not None and not callable(by):
        labels = [_as_labels(given) for given in by]
    elif by is None:
        labels = _quarters(labels)
    losses = [part[0] for part in parts]
    for own, error in zip(labels, losses, strict=True):
        if own is not None and len(own) != len(error):
            raise InputError(f"by: {len(own)} labels for {len(error)} examples: one label for each")
    fixed = achievable if isinstance(achievable, (int, float)) else allowed
    given: Mapping[Any, float] = achievable if isinstance(achievable, Mapping) else {}
    whole = _row("all", losses, None if fixed is None else float(fixed))
    return BiasVariance(measure=name, all=whole, groups=_groups(losses, labels, fixed, given))


def _measured(
    problem: Problem, model: torch.nn.Module, source: Source, each: Each, by: By | None
) -> tuple[Tensor, Tensor | Sequence[Any] | None]:
    """The error of every example, float64, and its label."""
    objective = Objective(problem)
    dtype = next((p.dtype for p in model.parameters()), None)
    outputs: list[Any] = []
    sizes: list[int] = []
    targets: list[Any] = []
    labels: list[Any] = []
    with evaluating(model):
        for batch in itertools.islice(source.stored(BATCH), MOST_STREAMED):
            moved = batches.to(batch, torch.device("cpu"), dtype)
            loss = objective.raw(model, moved)
            sizes.append(batches.length(moved))
            whole = not isinstance(loss.output, Tensor)
            outputs.append(measured_by(problem.metric, loss.made, sizes[-1]) if whole else loss.output)
            targets.append(loss.target)
            if by is not None:
                labels.append(_asked(by, problem, moved))
        target = batches.join(targets)
        errors = _errors(problem, each, batches.join(outputs, sizes), target)
    if by is not None:
        return errors, [label for part in labels for label in part]
    return errors, target if isinstance(target, Tensor) and target.numel() == len(target) else None


def _errors(problem: Problem, each: Each, output: Any, target: Any) -> Tensor:
    try:
        return each(output, target).detach().double()
    except DownslopeError:
        raise
    except Exception as error:
        raise InputError(
            f"bias and variance need the error of every example, which {Objective(problem).label} does not "
            f"tell; give a metric such as 'accuracy' or 'mse' ({told(error)})"
        ) from error


def _asked(by: By, problem: Problem, batch: Any) -> list[Any]:
    args, kwargs, target = problem.splitter(batch)
    inputs = args[0] if len(args) == 1 else args or kwargs
    try:
        return _as_labels(by(inputs, target))
    except Exception as error:
        raise InputError(f"by failed on a batch: {told(error)}") from error


def _as_labels(given: Any) -> list[Any]:
    plain: Any = given.tolist() if hasattr(given, "tolist") else given
    return list(plain)


def _quarters(targets: Sequence[Any]) -> list[Any]:
    """Classes as they are; of measurements the quarter of the training targets in which each lies."""
    if any(each is None for each in targets):
        return [None, None]
    flat: list[Tensor] = [each.reshape(len(each)) for each in targets]
    if not flat[0].is_floating_point() or len(kinds(flat[0])) <= 2:
        return [each.long().tolist() for each in flat]
    edges = torch.quantile(flat[0].double(), torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    bounds = [f"{float(edge):.3g}" for edge in edges]
    names = [
        f"target < {bounds[0]}", f"{bounds[0]} to {bounds[1]}", f"{bounds[1]} to {bounds[2]}",
        f"target > {bounds[2]}",
    ]  # fmt: skip
    return [[names[i] for i in torch.bucketize(each.double(), edges).tolist()] for each in flat]


def kinds(labels: Tensor) -> Tensor:
    """The different values, in order."""
    return cast("Tensor", labels.unique())


def _groups(
    losses: Sequence[Tensor], labels: Sequence[Any], fixed: float | None, given: Mapping[Any, float]
) -> tuple[Row, ...]:
    if any(each is None for each in labels):
        return ()
    names = sorted({*labels[0], *labels[1]}, key=str)
    if len(names) > MOST_GROUPS:
        raise InputError(
            f"{len(names)} groups: up to {MOST_GROUPS} can be read; give by= fewer, such as ranges of inputs"
        )
    rows: list[Row] = []
    for name in names:
        parts = [
            error[torch.tensor([label == name for label in own])]
            for error, own in zip(losses, labels, strict=True)
        ]
        rows.append(_row(str(name), parts, given.get(name, fixed)))
    return tuple(sorted(rows, key=lambda row: -row.valid[0] if math.isfinite(row.valid[0]) else 0.0))


def _row(name: str, losses: Sequence[Tensor], achievable: float | None) -> Row:
    train, valid = ((_mean(each), _stderr(each)) for each in losses)
    return Row(
        group=name, train=train, valid=valid, train_n=len(losses[0]), valid_n=len(losses[1]),
        achievable=achievable,
    )  # fmt: skip


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan


def _stderr(values: Tensor) -> float:
    """``s / sqrt(n)``; of shares that are all 0 or all 1 that of half an example."""
    if len(values) < 2:
        return math.nan
    error = float(values.std()) / math.sqrt(len(values))
    whole = bool(((values == 0) | (values == 1)).all())
    return max(error, 0.5 / len(values)) if whole else error


def _plain(row: Row) -> dict[str, Any]:
    return {
        "group": row.group, "train": row.train[0], "train_stderr": row.train[1], "valid": row.valid[0],
        "valid_stderr": row.valid[1], "train_n": row.train_n, "valid_n": row.valid_n,
        "achievable": row.achievable, "bias": row.bias, "variance": row.variance,
        "variance_stderr": row.variance_stderr, "larger": row.larger,
    }  # fmt: skip


def _pm(value: float, error: float) -> str:
    return f"{value:.3g}" if math.isnan(error) else f"{value:.3g} +- {error:.2g}"
