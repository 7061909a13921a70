"""Batches so large that an epoch is one step."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "batch-too-large",
    bases=names(task="digits table images rows friedman labels motifs adding many-moons"),
    also=("too-few-steps",),
    grades={"128": 128, "512": 512, "full": "full"},
)
def few_steps_an_epoch(base: Base, batch: int | str) -> Sick:
    """As many epochs, at the same rate."""
    return Sick(base.problem(), base.recipe.edit(batch_size=batch, lr=base.recipe.lr))
