"""A metric for each of several tasks, and their mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import InputError
from downslope.core.part import part
from downslope.core.spelling import parse, spell
from downslope.core.stated import reference
from downslope.objectives.metrics.metric import Goal


class ByTask:
    """``1/K sum_k metric_k(output_k, target_k)`` over K tasks, each with its own metric.

    Of an output that is a dict (or an object with such attributes) a task takes the entry of its name, of a
    tuple or list the one at its place; a single tensor goes to every task. The same holds for the target. In
    a run the mean is ``valid_metric``, by which the best model is chosen; each task is a column of its own
    (``valid_digit_accuracy``), and so is its standard error in the summary.

    Args:
        metrics: task to its metric, a name or ``(output, target) -> float``. All are better the same way.
        tasks: every task of the objective, in its order, where outputs are a tuple; those of `metrics` if
            left out.

    Attributes:
        goal: "max" or "min": which way each of them is better.
        bounds: The least and the greatest value of the mean.
        columns: Task to the name of its column, without ``valid_`` before it.

    Raises:
        InputError: no task, no metric, metrics that are better in two ways, or a task that is none.
    """

    def __init__(self, metrics: Mapping[str, Any], tasks: Sequence[str] | None = None) -> None:
        given: Any = metrics
        if not isinstance(given, Mapping) or not given:
            raise InputError(f"metric={given!r}: needs tasks, such as {{'digit': 'accuracy', 'mass': 'r2'}}")
        self.metrics: dict[str, Callable[..., Any]] = {
            str(task): _metric(str(task), own) for task, own in cast("Mapping[Any, Any]", given).items()
        }
        self.tasks = tuple(self.metrics) if tasks is None else tuple(tasks)
        for task in self.metrics:
            if task not in self.tasks:
                raise InputError(
                    f"metric: the objective has no task {task!r}{names.did_you_mean(task, self.tasks)}"
                )
        self.goal = _direction(self.metrics)
        ends = [getattr(own, "bounds", (-math.inf, math.inf)) for own in self.metrics.values()]
        self.bounds = (sum(low for low, _ in ends) / len(ends), sum(high for _, high in ends) / len(ends))
        self.columns = {task: f"{task}_{_name(own)}" for task, own in self.metrics.items()}

    def __call__(self, output: Any, target: Any) -> float:
        """The mean over the tasks."""
        return self.mean(self.each(output, target))

    def each(self, output: Any, target: Any) -> dict[str, float]:
        """Task to the value of its metric.

        Raises:
            ObjectiveError: output or target has no such task.
        """
        return {task: float(own(*self.of(task, output, target))) for task, own in self.metrics.items()}

    def mean(self, each: Mapping[str, float]) -> float:
        """What stands for all, of what `each` gave."""
        return sum(each.values()) / len(each)

    def of(self, task: str, output: Any, target: Any) -> tuple[Any, Any]:
        """Output and target of a task.

        Raises:
            ObjectiveError: there is no such part.
        """
        return part(output, task, self.tasks, "output", "metric"), part(
            target, task, self.tasks, "target", "metric"
        )

    def shares(self, output: Any, target: Any) -> Tensor:
        """What each example contributes to the mean, shape (n,).

        Raises:
            InputError: a metric that does not say it.
        """
        found: list[Tensor] = []
        for task, own in self.metrics.items():
            if (shares := getattr(own, "shares", None)) is None:
                raise InputError(f"{_name(own)} does not say what each example contributes")
            found.append(shares(*self.of(task, output, target)))
        return torch.stack(found).mean(0)

    def among(self, objective: Any) -> ByTask:
        """The same, its tasks looked for among those of `objective` where that has any by name."""
        inner = getattr(objective, "objective", objective)  # of one with penalties
        tasks = getattr(inner, "tasks", None)
        return ByTask(self.metrics, tuple(cast("Mapping[str, Any]", tasks))) if tasks else self

    @property
    def __name__(self) -> str:
        return (
            f"mean {next(iter(kinds))}"
            if len(kinds := set(map(_name, self.metrics.values()))) == 1
            else "mean metric"
        )

    @property
    def spelling(self) -> str:
        """The text that makes it again."""
        return spell("by_task", ({task: _short(own) for task, own in self.metrics.items()},), {})

    def __repr__(self) -> str:
        return self.spelling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByTask) and self.metrics == other.metrics

    def __hash__(self) -> int:
        return hash(self.spelling)


def by_task(metrics: Mapping[str, Any]) -> ByTask:
    """A metric for each task; arguments are those of `ByTask`.

    Example:
        >>> from downslope.objectives.metrics import by_task
        >>> by_task({"digit": "accuracy", "mass": "r2"})
        by_task({'digit': 'accuracy', 'mass': 'r2'})
    """
    return ByTask(metrics)


def from_text(text: str) -> ByTask:
    """What ``by_task({'digit': 'accuracy'})`` spells.

    Raises:
        InputError: another text.
    """
    spelt = parse(text)
    if spelt.name != "by_task" or len(spelt.args) != 1 or spelt.settings:
        raise InputError(
            f"metric {text!r} is not known; of several tasks write by_task({{'digit': 'accuracy'}})"
        )
    return ByTask(spelt.args[0])


def _metric(task: str, given: Any) -> Callable[..., Any]:
    found: Any = names.resolve("metric", given) if isinstance(given, str) else given
    if isinstance(found, type) or not callable(found):
        raise InputError(f"metric: {task!r} has {given!r}: must be a name or (output, target) -> float")
    return found


def _direction(metrics: Mapping[str, Callable[..., Any]]) -> Goal:
    goals: dict[Goal, str] = {}
    for task, own in metrics.items():
        goals.setdefault(cast("Goal", getattr(own, "goal", "max")), task)
    if len(goals) == 1:
        return next(iter(goals))
    raise InputError(
        f"metric: that of {goals['max']!r} is better when higher, that of {goals['min']!r} when lower, and "
        "their mean judges a run: give all of one kind, such as 'accuracy' and 'r2', or 'error' and 'mae'"
    )


def _name(metric: Any) -> str:
    said = str(getattr(metric, "__name__", "metric"))
    return said if said.isidentifier() else "metric"


def _short(metric: Any) -> str:
    name = _name(metric)
    if name in names.TABLE["metric"] and names.resolve("metric", name) is metric:
        return name
    return str(reference(metric))
