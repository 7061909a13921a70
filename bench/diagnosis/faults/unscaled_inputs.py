"""Inputs far from mean 0 and deviation 1: multiplied, shifted, or one column in another unit."""

from __future__ import annotations

import torch

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault
from bench.diagnosis.tasks import scaled

REAL = names(task="digits wine cancer diabetes friedman moons labels table images rows adding")


@fault("unscaled-inputs", bases=REAL, grades={"x2": 2.0, "x30": 30.0, "x255": 255.0, "x3000": 3000.0})
def multiplied(base: Base, factor: float) -> Sick:
    return Sick(base.problem(scaled(base.task, factor)), base.recipe)


@fault(
    "unscaled-inputs",
    way="shift",
    bases=names(task="digits wine cancer diabetes friedman moons labels images"),
    grades={"+1": (1.0, 1.0), "x20+300": (20.0, 300.0), "+1000": (1.0, 1000.0)},
)
def shifted(base: Base, how: tuple[float, float]) -> Sick:
    return Sick(base.problem(scaled(base.task, *how)), base.recipe)


@fault(
    "unscaled-inputs",
    way="units",
    bases=names(task="wine cancer diabetes friedman labels", net="mlp mlp-custom"),
    grades={"one x10": 10.0, "one x1000": 1000.0, "one x1e5": 1e5},
)
def one_column(base: Base, factor: float) -> Sick:
    """One column in millimetres among metres."""
    factors = torch.ones(base.task.shape)
    factors[base.stream % len(factors)] = factor
    return Sick(base.problem(scaled(base.task, factors)), base.recipe)
