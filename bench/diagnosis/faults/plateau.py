"""A start on level ground: an output so sure of the wrong answer that the squared error has no slope."""

from __future__ import annotations

from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault


@fault(
    "plateau",
    bases=names(asks="binary labels"),
    twinned=True,
    also=("saturated-units", "output-activation", "init-scale"),
    grades={"bias 0": 0.0, "bias -3": -3.0, "bias -10": -10.0, "bias -20": -20.0},
)
def saturated_output(base: Base, bias: float) -> Sick:
    """A sigmoid under a squared error, its bias far below zero."""

    def start(value: float) -> object:
        def change(model: nn.Module) -> None:
            last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.constant_(last.bias, value)

        return change

    recipe = base.recipe.edit(lr=min(3 * base.recipe.lr, 0.5)) if "adam" not in base.name else base.recipe
    twin = Setup(base.problem(end="sigmoid", objective=nn.MSELoss(), change=start(0.0)), recipe)
    return Sick(base.problem(end="sigmoid", objective=nn.MSELoss(), change=start(bias)), recipe, twin)
