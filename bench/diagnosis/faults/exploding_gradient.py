"""Many layers, or many steps, that each enlarge the gradient."""

from __future__ import annotations

from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.nets import Knobs
from bench.diagnosis.tasks import Task


@fault(
    "exploding-gradient",
    way="deep",
    bases=names(task="digits wine friedman table", net="mlp mlp-custom"),
    also=("init-scale",),
    grades={"gain 1": 1.0, "gain 2": 2.0, "gain 4": 4.0},
    twinned=True,
)
def deep(base: Base, gain: float) -> Sick:
    """Ten ReLU layers after He et al. 2015, times a gain."""

    def drawn(factor: float) -> object:
        def change(model: nn.Module) -> None:
            for layer in [m for m in model.modules() if isinstance(m, nn.Linear)]:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                layer.weight.data.mul_(factor)
                nn.init.zeros_(layer.bias)

        return change

    recipe = base.recipe.edit(lr=base.recipe.lr / 10)
    twin = Setup(base.problem(depth=10, change=drawn(1.0)), recipe)
    return Sick(base.problem(depth=10, change=drawn(gain)), recipe, twin)


class Linear(nn.Module):
    """A recurrent network with ReLU (Le, Jaitly and Hinton 2015): its memory can grow without a bound."""

    def __init__(self, task: Task, k: Knobs, gain: float) -> None:
        super().__init__()
        inputs = task.vocabulary or task.shape[-1]
        self.cell = nn.RNN(inputs, k.width, nonlinearity="relu", batch_first=True)
        nn.init.eye_(self.cell.weight_hh_l0)
        self.cell.weight_hh_l0.data.mul_(gain)
        nn.init.normal_(self.cell.weight_ih_l0, 0.0, 0.1)
        nn.init.zeros_(self.cell.bias_hh_l0)
        nn.init.zeros_(self.cell.bias_ih_l0)
        self.out = nn.Linear(k.width, task.outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x)[0][:, -1])


@fault(
    "exploding-gradient",
    way="recurrent",
    bases=names(task="rows"),
    also=("init-scale",),
    grades={"gain 1": 1.0, "gain 1.5": 1.5, "gain 3": 3.0},
    twinned=True,
)
def recurrent(base: Base, gain: float) -> Sick:
    def of(factor: float) -> object:
        return lambda: Linear(base.task, Knobs(width=24), factor)

    recipe = base.recipe.edit(optimizer="sgd", lr=0.01, momentum=0.9, epochs=12)
    return Sick(base.problem(model=of(gain)), recipe, Setup(base.problem(model=of(1.0)), recipe))
