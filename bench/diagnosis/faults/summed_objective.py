"""A sum over the batch where a mean is meant: the learning rate grows with the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault

TORCH: dict[str, Any] = {
    "classes": lambda: nn.CrossEntropyLoss(reduction="sum"),
    "binary": lambda: nn.BCEWithLogitsLoss(reduction="sum"),
    "labels": lambda: nn.BCEWithLogitsLoss(reduction="sum"),
    "regression": lambda: nn.MSELoss(reduction="sum"),
}


def own_classes(output: Tensor, target: Tensor) -> Tensor:
    return -functional.log_softmax(output, 1).gather(1, target[:, None]).sum()


def own_real(output: Tensor, target: Tensor) -> Tensor:
    return ((output - target) ** 2).sum()


@fault("summed-objective", bases=names(), grades={"sum": 0})
def summed(base: Base, _: int) -> Sick:
    return Sick(base.problem(objective=TORCH[base.task.asks]()), base.recipe)


@fault(
    "summed-objective",
    way="own code",
    bases=names(asks="classes regression", method="sgd momentum"),
    grades={"sum, a tenth of the lr": 0.1, "sum": 1.0},
)
def own(base: Base, factor: float) -> Sick:
    objective = own_classes if base.task.asks == "classes" else own_real
    return Sick(base.problem(objective=objective), base.recipe.edit(lr=base.recipe.lr * factor))
