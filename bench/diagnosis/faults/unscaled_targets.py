"""Targets in raw units, far from 0 and of large or tiny deviation."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault
from bench.diagnosis.tasks import retargeted


@fault(
    "unscaled-targets",
    bases=names(asks="regression"),
    grades={"x2": (2.0, 0.0), "x30+100": (30.0, 100.0), "x100+500": (100.0, 500.0), "+3000": (1.0, 3000.0)},
)
def in_raw_units(base: Base, how: tuple[float, float]) -> Sick:
    return Sick(base.problem(retargeted(base.task, *how)), base.recipe)
