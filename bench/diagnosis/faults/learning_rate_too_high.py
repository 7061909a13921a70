"""Steps too long for the terrain."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "learning-rate-too-high", bases=names(), grades={"x3": 3.0, "x30": 30.0, "x300": 300.0, "x3000": 3000.0}
)
def longer_steps(base: Base, factor: float) -> Sick:
    return Sick(base.problem(), base.recipe.edit(lr=base.recipe.lr * factor))
