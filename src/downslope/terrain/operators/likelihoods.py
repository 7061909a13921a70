"""The Fisher information of an output: of the distribution whose negative log-likelihood an objective is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.composite import Composite
from downslope.objectives.meaning import meaning
from downslope.objectives.penalised import Penalised
from downslope.terrain.operators.outputs import Outputs

NATURAL = (
    "cross_entropy", "CrossEntropyLoss", "logistic", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits",
    "squared_error", "MSELoss", "mse_loss",
)  # fmt: skip
"""Objectives whose output is the natural parameter of its distribution: the Hessian by it holds no target."""


def information(outputs: Outputs) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """``u -> M u``, M the Fisher information by the outputs, in the unit of the objective.

    Raises:
        ObjectiveError: the objective is no negative log-likelihood that is known.
    """
    function: Any = outputs.objective.function
    if _natural(function):
        return outputs.curved
    raise ObjectiveError(
        f"fisher('true'): {outputs.objective.label} is not known as a negative log-likelihood, so there is "
        "no distribution to expect over; take gauss_newton(), fisher('empirical'), or such an objective"
    )


def _natural(function: Any) -> bool:
    if isinstance(function, Penalised):
        return _natural(function.objective)
    if isinstance(function, Composite):
        return all(_natural(each) for each in function.tasks.values())
    return meaning(function).name in NATURAL
