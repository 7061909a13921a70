"""An objective through which no gradient comes: argmax, round, detach, a number instead of a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


def straight_through(output: Tensor, target: Tensor) -> Tensor:
    """Rounded on the way out, not on the way back: works."""
    rounded = output + ((10 * output).round() / 10 - output).detach()
    return ((rounded - target) ** 2).mean()


def rounded(output: Tensor, target: Tensor) -> Tensor:
    return ((output.round() - target) ** 2).mean()


def detached(output: Tensor, target: Tensor) -> Tensor:
    return ((output.detach() - target) ** 2).mean()


def number(output: Tensor, target: Tensor) -> Tensor:
    return torch.tensor(((output - target) ** 2).mean().item(), requires_grad=True)


@fault(
    "non-differentiable",
    way="regression",
    bases=names(asks="regression"),
    grades={"straight through": straight_through, "round": rounded, "detach": detached, "item": number},
)
def regression(base: Base, objective: Any) -> Sick:
    return Sick(base.problem(objective=objective), base.recipe)


def share_of_errors(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) != target).float().mean()


def hard(output: Tensor, target: Tensor) -> Tensor:
    """One-hot answers by comparison with the largest score, then a squared error."""
    answers = (output >= output.max(1, keepdim=True).values).float()
    return ((answers - functional.one_hot(target, output.shape[1])) ** 2).mean() + 0.0 * output.sum()


@fault(
    "non-differentiable",
    way="classes",
    bases=names(asks="classes"),
    grades={"argmax": share_of_errors, "compared": hard},
)
def classes(base: Base, objective: Any) -> Sick:
    return Sick(base.problem(objective=objective), base.recipe)
