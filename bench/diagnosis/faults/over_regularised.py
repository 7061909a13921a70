"""Decay, dropout or a penalty so strong that the data is not fitted."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault

SOME = names(task="digits wine cancer friedman circles product labels table images rows motifs adding")


@fault("over-regularised", way="decay", bases=SOME, grades={"1e-4": 1e-4, "0.1": 0.1, "1": 1.0, "10": 10.0})
def decayed(base: Base, decay: float) -> Sick:
    name = "adamw" if base.parts[2] == "adam" and base.seed else base.recipe.optimizer
    factor = 10.0 if name == "adamw" else 1.0
    return Sick(
        base.problem(), base.recipe.edit(optimizer=name, weight_decay=factor * decay, lr=base.recipe.lr)
    )


@fault(
    "over-regularised",
    way="dropout",
    bases=names(net="mlp mlp-custom cnn cnn-custom gru attention-custom"),
    grades={"0.1": 0.1, "0.8": 0.8, "0.95": 0.95, "0.99": 0.99},
)
def dropped(base: Base, share: float) -> Sick:
    return Sick(base.problem(dropout=share), base.recipe)
