"""Several objectives as one: a weighted sum of named terms, on one output or on one output for each task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import ObjectiveError
from downslope.core.loss import Composed
from downslope.core.part import part
from downslope.core.spelling import spell
from downslope.objectives import pcgrad
from downslope.objectives.configured import short

Weighting = Mapping[str, float] | Literal["uncertainty"]
Surgery = Literal["pcgrad"]
Change = Callable[[Any, Mapping[str, Any]], Any]


class Composite(nn.Module):
    """``L = sum_k w_k L_k`` over tasks k, each with its own objective.

    Of an output that is a dict (or an object with such attributes) a task takes the entry of its name, of a
    tuple or list the one at its place; a single tensor goes to every task, so that several terms can be asked
    of one output. The same holds for the target. Each term is logged as ``train_<task>``, unweighted.

    With ``weights="uncertainty"`` the weights are learnt beside the model (Kendall, Gal and Cipolla 2018,
    Multi-task learning using uncertainty, equations 7 to 10): ``s_k = log sigma_k**2`` starts at 0, and

        ``L = sum_k c_k exp(-s_k) L_k + s_k / 2``

    with c = 1/2 for a squared error (the Gaussian likelihood, whose best sigma**2 is that error), 1 else; of
    an absolute error ``exp(-s_k / 2) L_k + s_k / 2``, the Laplace likelihood. No weight decay falls on s.

    With ``surgery="pcgrad"`` gradients of tasks that conflict are projected first: see
    `downslope.objectives.pcgrad`.

    Args:
        tasks: name of a task to its objective, a name or ``(output, target) -> scalar``.
        weights: name to factor in [0, inf), 1 where left out; or "uncertainty".
        surgery: "pcgrad", or None for the gradient of the sum.

    Raises:
        ObjectiveError: no task, a weight of no task or outside its domain, another word.
    """

    def __init__(
        self,
        tasks: Mapping[str, Any],
        weights: Weighting | None = None,
        surgery: Surgery | None = None,
    ) -> None:
        super().__init__()
        given: Any = tasks
        if not isinstance(given, Mapping) or not given:
            raise ObjectiveError(
                f"composite({given!r}): needs tasks, such as {{'digit': 'cross_entropy', 'odd': 'logistic'}}"
            )
        self.tasks: dict[str, Callable[..., Any]] = {
            str(key): names.resolve("objective", each) if isinstance(each, str) else each
            for key, each in tasks.items()
        }
        for key, each in self.tasks.items():
            if not callable(each):
                raise ObjectiveError(f"composite: task {key!r} has {each!r}: must be a name or a function")
            if isinstance(each, nn.Module):
                self.add_module(f"task_{key}", each)
        if surgery not in (None, "pcgrad"):
            raise ObjectiveError(
                f"surgery={surgery!r}: must be 'pcgrad', or None for the gradient of the sum"
            )
        self.surgery = surgery
        self.learnt = weights == "uncertainty"
        self.weights = {} if self.learnt else _factors(weights, self.tasks)
        if self.learnt:
            self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))
        if surgery is not None:
            self.combine = pcgrad.combine

    def forward(self, output: Any, target: Any) -> Composed:
        """The weighted sum, every term by its name, and every weighted one.

        Raises:
            ObjectiveError: output or target has no such task, or a task gives no scalar.
        """
        terms: dict[str, Tensor] = {}
        for key, own, its, wanted in self.pairs(output, target):
            value = own(its, wanted)
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise ObjectiveError(f"composite: task {key!r} gave no scalar; each task needs a mean")
            terms[key] = value.reshape(())
        parts = {key: self._weighted(key, place, terms[key]) for place, key in enumerate(terms)}
        if self.learnt:
            logged = self.log_variance.detach().clone().unbind()
            terms |= {f"{key}_log_variance": s for key, s in zip(self.tasks, logged, strict=True)}
        return Composed(torch.stack(list(parts.values())).sum(), terms, parts)

    @property
    def factors(self) -> dict[str, float]:
        """What each task's loss is multiplied by: the weights as given, or ``c exp(-s)`` as learnt by now."""
        if not self.learnt:
            return dict(self.weights)
        with torch.no_grad():
            one, none = torch.ones(()), torch.zeros(())
            gained = (
                self._weighted(key, place, one) - self._weighted(key, place, none)
                for place, key in enumerate(self.tasks)
            )
            return dict(zip(self.tasks, map(float, gained), strict=True))

    def examples(self, each: Callable[..., Callable[[Any, Any], Tensor]], output: Any, target: Any) -> Tensor:
        """The loss of every example, shape (n,), by what `each` makes of the objective of a task."""
        rows = [
            self._weighted(key, place, each(own)(its, wanted))
            for place, (key, own, its, wanted) in enumerate(self.pairs(output, target))
        ]
        return torch.stack(rows).sum(0)

    def pairs(self, output: Any, target: Any) -> Iterator[tuple[str, Callable[..., Any], Any, Any]]:
        """Name, objective, output and target of each task.

        Raises:
            ObjectiveError: output or target has no such task.
        """
        tasks = tuple(self.tasks)
        for key, own in self.tasks.items():
            yield key, own, part(output, key, tasks, "output"), part(target, key, tasks, "target")

    def _weighted(self, key: str, place: int, value: Tensor) -> Tensor:
        if not self.learnt:
            return value * self.weights[key]
        s = self.log_variance[place]
        known = getattr(self.tasks[key], "likelihood", None)
        if known == "a Laplace distribution":
            return (-s / 2).exp() * value + s / 2
        return (0.5 if known == "a Gaussian" else 1.0) * (-s).exp() * value + s / 2

    def edited(self, settings: Mapping[str, Any], change: Change) -> Composite:
        """The same with other settings: "weights", "surgery", ``weights.<task>``, ``<task>.<setting>``.

        Raises:
            ObjectiveError: no such key.
        """
        tasks = dict(self.tasks)
        surgery: Any = self.surgery
        weights: Any = "uncertainty" if self.learnt else dict(self.weights)
        for key, value in settings.items():
            head, dot, rest = key.partition(".")
            if key == "weights":
                weights = value
            elif key == "surgery":
                surgery = value
            elif head == "weights" and dot:
                weights = ({} if isinstance(weights, str) else dict(weights)) | {rest: value}
            elif head in tasks and dot:
                tasks[head] = change(tasks[head], {rest: value})
            else:
                known = ["weights", "surgery", *(f"weights.{each}" for each in tasks)]
                raise ObjectiveError(f"objective.{key}: no such setting{names.did_you_mean(key, known)}")
        return Composite(tasks, weights, surgery)

    @property
    def spelling(self) -> str:
        """The text that makes it again."""
        said: dict[str, Any] = {}
        others = {key: factor for key, factor in self.weights.items() if factor != 1.0}
        if self.learnt or others:
            said["weights"] = "uncertainty" if self.learnt else others
        if self.surgery is not None:
            said["surgery"] = self.surgery
        tasks = {key: short(each) for key, each in self.tasks.items()}
        return spell("composite", (tasks,), said)

    def __repr__(self) -> str:
        return self.spelling


def composite(
    tasks: Mapping[str, Any], weights: Weighting | None = None, surgery: Surgery | None = None
) -> Composite:
    """Several objectives as one; arguments and formulas are those of `Composite`.

    Example:
        >>> from downslope.objectives import composite
        >>> composite({"digit": "cross_entropy", "parity": "logistic"}, weights={"parity": 0.5})
        composite({'digit': 'cross_entropy', 'parity': 'logistic'}, weights={'parity': 0.5})
    """
    return Composite(tasks, weights, surgery)


def _factors(weights: Any, tasks: Mapping[str, Any]) -> dict[str, float]:
    if weights is None:
        return dict.fromkeys(tasks, 1.0)
    if not isinstance(weights, Mapping):
        raise ObjectiveError(
            f"weights={weights!r}: must be a dict from task to factor, or 'uncertainty' to learn them"
        )
    given = cast("Mapping[str, Any]", weights)
    for key, value in given.items():
        if key not in tasks:
            raise ObjectiveError(f"weights: no task {key!r}{names.did_you_mean(str(key), tasks)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise ObjectiveError(
                f"weights: {key}={value!r}: must be a number in [0, inf); 0 leaves a task out"
            )
    return {key: float(given.get(key, 1.0)) for key in tasks}
