"""NaN or infinity among the inputs or the targets."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


def with_one(x: Tensor, value: float, every: int = 0) -> Tensor:
    """A copy with `value` in one place, or in every `every`-th."""
    found = x.clone()
    flat = found.view(-1)
    if every:
        flat[::every] = value
    else:
        flat[len(flat) // 3] = value
    return found


GRADES: dict[str, Callable[[Tensor], Tensor]] = {
    "one nan": lambda x: with_one(x, math.nan),
    "one inf": lambda x: with_one(x, math.inf),
    "every 97th nan": lambda x: with_one(x, math.nan, 97),
}


@fault(
    "non-finite-data",
    bases=names(task="digits wine cancer friedman labels images rows adding table"),
    grades=GRADES,
)
def inputs(base: Base, spoilt: Callable[[Tensor], Tensor]) -> Sick:
    x, y = base.task.train
    return Sick(base.problem(base.task.trained_on((spoilt(x), y))), base.recipe)


@fault("non-finite-data", way="target", bases=names(asks="regression"), grades=dict(list(GRADES.items())[:2]))
def targets(base: Base, spoilt: Callable[[Tensor], Tensor]) -> Sick:
    x, y = base.task.train
    return Sick(base.problem(base.task.trained_on((x, spoilt(y)))), base.recipe)
