"""Few examples, some of them wrong, a wide model and time enough to learn them by heart."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import head, mislabelled

ADAPTIVE = names(net="mlp mlp-custom", method="adam rmsprop adamw")


@fault(
    "high-variance",
    bases=ADAPTIVE,
    also=("label-noise",),
    grades={"800 clean": (800, 0.0), "150": (150, 0.3), "60": (60, 0.3)},
)
def learnt_by_heart(base: Base, how: tuple[int, float]) -> Sick:
    count, share = how
    few = mislabelled(head(base.task, count), share)
    recipe = base.recipe.edit(epochs=200, batch_size=32, lr=3e-3) if share else base.recipe
    twin = Setup(base.problem(), base.recipe)
    return Sick(base.problem(few, width=192), recipe, twin, judged="last loss")
