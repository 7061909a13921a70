"""A run that ends while the loss still falls."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault("too-few-steps", bases=names(), grades={"half": 0.5, "a tenth": 0.1, "a thirtieth": 1 / 30})
def cut_short(base: Base, share: float) -> Sick:
    steps = base.recipe.epochs * -(-len(base.task.train[0]) // 64)
    return Sick(base.problem(), base.recipe.edit(steps=max(2, round(share * steps))))
