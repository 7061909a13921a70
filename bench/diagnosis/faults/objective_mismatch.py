"""An objective that leads elsewhere than the target: shapes that broadcast, the wrong sign, other labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault
from bench.diagnosis.tasks import Pair


def squared(output: Tensor, target: Tensor) -> Tensor:
    """As people write it: (n, 1) minus (n,) is (n, n)."""
    return ((output - target) ** 2).mean()


def absolute(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def flat(pair: Pair) -> Pair:
    return pair[0], pair[1].flatten()


@fault(
    "objective-mismatch",
    way="shapes",
    bases=names(asks="regression"),
    grades={"aligned": (squared, False), "squared": (squared, True), "absolute": (absolute, True)},
)
def broadcast(base: Base, how: tuple[Any, bool]) -> Sick:
    objective, wrong = how
    task = base.task.mapped(flat) if wrong else base.task
    return Sick(base.problem(task, objective=objective), base.recipe)


def shifted(output: Tensor, target: Tensor) -> Tensor:
    """Classes counted from one in the objective, from zero in the data."""
    return functional.cross_entropy(output, (target + 1) % output.shape[1])


def likelihood(output: Tensor, target: Tensor) -> Tensor:
    """A likelihood, which is to be maximised, minimised. Bounded, so that nothing overflows."""
    return functional.softmax(output, 1).gather(1, target[:, None]).mean()


def own(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target)


def first_column(output: Tensor, target: Tensor) -> Tensor:
    """The class index as a number, against the first output."""
    return ((output[:, 0] - target.float()) ** 2).mean()


@fault(
    "objective-mismatch",
    way="classes",
    bases=names(task="digits wine table images rows motifs"),
    grades={"own": own, "off by one": shifted, "wrong sign": likelihood, "index": first_column},
)
def elsewhere(base: Base, objective: Any) -> Sick:
    return Sick(base.problem(objective=objective), base.recipe)
