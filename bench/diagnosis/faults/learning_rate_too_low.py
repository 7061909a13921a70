"""Steps too short for the length of the run."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "learning-rate-too-low",
    bases=names(),
    grades={"by 3": 3.0, "by 100": 100.0, "by 1000": 1000.0, "by 10000": 10000.0},
)
def shorter_steps(base: Base, factor: float) -> Sick:
    return Sick(base.problem(), base.recipe.edit(lr=base.recipe.lr / factor))
