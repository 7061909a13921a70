"""An activation at the output that the objective, or the range of the target, does not go with."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "output-activation",
    way="classes",
    bases=names(asks="classes"),
    grades={"softmax": "softmax", "sigmoid": "sigmoid", "relu": "relu", "tanh": "tanh"},
)
def before_cross_entropy(base: Base, end: str) -> Sick:
    return Sick(base.problem(end=end), base.recipe)


@fault(
    "output-activation",
    way="binary",
    bases=names(asks="binary labels"),
    grades={"sigmoid": "sigmoid", "relu": "relu", "softmax": "softmax"},
)
def before_logits(base: Base, end: str) -> Sick:
    return Sick(base.problem(end=end), base.recipe)


@fault(
    "output-activation",
    way="regression",
    bases=names(asks="regression"),
    grades={"tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu"},
)
def bounded(base: Base, end: str) -> Sick:
    return Sick(base.problem(end=end), base.recipe)
