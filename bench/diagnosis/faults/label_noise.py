"""A share of the training targets is wrong."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault
from bench.diagnosis.tasks import mislabelled


@fault(
    "label-noise",
    bases=names(task="digits wine cancer friedman moons table images rows motifs labels"),
    grades={"3 %": 0.03, "20 %": 0.2, "50 %": 0.5, "80 %": 0.8},
)
def shuffled(base: Base, share: float) -> Sick:
    return Sick(base.problem(mislabelled(base.task, share, base.stream)), base.recipe)
