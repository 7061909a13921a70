"""Batches so small that the gradient is noise at this learning rate."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault


@fault(
    "noisy-gradient",
    bases=names(task="digits diabetes friedman wine moons labels table images", method="sgd momentum"),
    also=("learning-rate-too-high",),
    twinned=True,
    grades={"batch 32": 32, "batch 4": 4, "batch 1": 1, "batch 1, lr x4": -1},
)
def tiny_batches(base: Base, batch: int) -> Sick:
    """As many steps as the twin takes with 64 examples each, at a rate that suits 64."""
    steps = min(600, base.recipe.epochs * -(-len(base.task.train[0]) // 64))
    recipe = base.recipe.edit(steps=steps)
    return Sick(
        base.problem(),
        recipe.edit(batch_size=abs(batch), lr=recipe.lr * (4 if batch < 0 else 1)),
        Setup(base.problem(), recipe),
        judged="last metric",
    )
