"""A wall in the terrain of a recurrent network: one step over it throws the weights far away (Pascanu et al.
2013); the gradient's norm has to be clipped."""

from __future__ import annotations

import torch
from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault


@fault(
    "cliff",
    bases=names(task="rows"),
    twinned=True,
    also=("exploding-gradient", "learning-rate-too-high"),
    grades={"norm 0.5": 0.5, "norm 2": 2.0, "norm 3": 3.0},
)
def large_recurrence(base: Base, norm: float) -> Sick:
    """A plain network whose recurrence is an orthogonal matrix times `norm`, without clipping."""

    def change(model: nn.Module) -> None:
        for name, p in model.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(p)
                with torch.no_grad():
                    p.mul_(norm)

    recipe = base.recipe.edit(optimizer="sgd", lr=0.15, momentum=0.9, epochs=12)
    problem = base.problem(net="rnn", change=change)
    return Sick(problem, recipe, Setup(problem, recipe.edit(clip_norm=0.3)), judged="last metric")
