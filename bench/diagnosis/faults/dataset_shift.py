"""Held-out data that is prepared in another way than the training data, or labelled with other ids."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault
from bench.diagnosis.scripts import loop, script
from downslope.data.table import Pair

REAL = names(task="digits wine cancer friedman table images rows circles many-moons")


@fault(
    "dataset-shift", way="inputs", bases=REAL,
    grades={"x 1.02": (1.02, 0.0), "x 0.1": (0.1, 0.0), "x 10 + 3": (10.0, 3.0), "x 255": (255.0, 0.0)},
)  # fmt: skip
def scaled(base: Base, how: tuple[float, float]) -> Sick:
    """The scale of the training inputs, here and not there."""
    a, b = how

    def other(pair: Pair) -> Pair:
        return pair[0] * a + b, pair[1]

    return Sick(base.problem(base.task.mapped(lambda pair: pair, other)), base.recipe, judged="last metric")


def turned(x: Tensor) -> Tensor:
    """Pictures transposed; of a table the columns in the opposite order."""
    if x.dim() == 2 and x.shape[1] != 64:
        return x.flip(1)
    sides = x.reshape(len(x), -1, 8, 8).transpose(2, 3)
    return sides.reshape(x.shape)


@fault("dataset-shift", way="order", bases=names(task="digits images table friedman cancer"),
       also=("uninformative-inputs",), grades={"as it is": False, "turned": True})  # fmt: skip
def reordered(base: Base, wrong: bool) -> Sick:
    """Another orientation, or another order of columns that are distributed each in its own way."""
    scale = torch.linspace(0.5, 2.0, base.task.shape[-1])

    def bent(x: Tensor) -> Tensor:
        return x * scale + scale.sqrt() if x.dim() == 2 and x.shape[1] != 64 else x

    def other(pair: Pair) -> Pair:
        return (turned(bent(pair[0])) if wrong else bent(pair[0])), pair[1]

    task = base.task.mapped(lambda pair: (bent(pair[0]), pair[1]), other)
    return Sick(base.problem(task), base.recipe, judged="last metric")


@fault("dataset-shift", way="labels", bases=names(task="digits images rows"),
       also=("uninformative-inputs",), grades={"as they are": 0, "one on": 1})  # fmt: skip
def renamed(base: Base, by: int) -> Sick:
    """Class ids of another table: each stands for the class after it."""

    def other(pair: Pair) -> Pair:
        return pair[0], (pair[1] + by) % 10

    return Sick(base.problem(base.task.mapped(lambda pair: pair, other)), base.recipe, judged="last metric")


_SCORED = "model.eval()\n    with torch.no_grad(): print(loss_function(model(Xv), Yv).item())"
for task in ("digits", "wine", "friedman", "rows"):
    script("dataset-shift", f"{task}, held-out inputs times 16", task,
           loop(before="Xv = Xv * 16", evaluate=_SCORED), loop(evaluate=_SCORED))  # fmt: skip
script("dataset-shift", "digits, ids one on", "digits",
       loop(before="Yv = (Yv + 1) % 10", evaluate=_SCORED), loop(evaluate=_SCORED))  # fmt: skip
