"""Logarithms and roots at zero, exponentials without a bound."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import Pair


def entropy(output: Tensor, target: Tensor) -> Tensor:
    """0 times the logarithm of 0 as soon as one answer is certain."""
    return -(target * output.log() + (1 - target) * (1 - output).log()).mean()


def entropy_kept(output: Tensor, target: Tensor) -> Tensor:
    """The same, kept away from 0 and 1."""
    return entropy(output.clamp(1e-6, 1 - 1e-6), target)


@fault(
    "unstable-objective",
    way="logarithm",
    bases=names(task="cancer circles moons labels"),
    grades={"clamped": entropy_kept, "bare": entropy},
)
def logarithm(base: Base, objective: Any) -> Sick:
    """Where the data can be told apart without doubt, answers become certain on the way."""
    twin = Setup(base.problem(end="sigmoid", objective=entropy_kept), base.recipe)
    return Sick(base.problem(end="sigmoid", objective=objective), base.recipe, twin)


def likelihood(output: Tensor, target: Tensor) -> Tensor:
    """Softmax by hand: exp of large scores is infinite."""
    scores = output.exp()
    return -(scores.gather(1, target[:, None]) / scores.sum(1, keepdim=True)).log().mean()


@fault(
    "unstable-objective",
    way="softmax by hand",
    bases=names(task="digits wine table images"),
    grades={"small scores": 0.0, "large scores": 100.0},
)
def by_hand(base: Base, offset: float) -> Sick:
    def change(model: nn.Module) -> None:
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        assert last.bias is not None
        last.bias.data.add_(offset)  # the softmax does not see it

    twin = Setup(base.problem(change=change), base.recipe)
    return Sick(base.problem(objective=likelihood, change=change), base.recipe, twin)


def distance(output: Tensor, target: Tensor) -> Tensor:
    """The root has no slope at 0."""
    return ((output - target) ** 2).sum(1).sqrt().mean()


def distance_kept(output: Tensor, target: Tensor) -> Tensor:
    return (((output - target) ** 2).sum(1) + 1e-6).sqrt().mean()


@fault(
    "unstable-objective",
    way="root",
    bases=names(asks="regression"),
    grades={"kept off": distance_kept, "bare": distance},
)
def root(base: Base, objective: Any) -> Sick:
    """Targets in steps of a half, and a head that starts at 0: some residuals are exactly 0."""

    def stepped(pair: Pair) -> Pair:
        return pair[0], torch.round(2 * pair[1]) / 2

    def change(model: nn.Module) -> None:
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    task = base.task.mapped(stepped)
    twin = Setup(base.problem(task, objective=distance_kept, change=change), base.recipe)
    return Sick(base.problem(task, objective=objective, change=change), base.recipe, twin)
