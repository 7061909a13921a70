"""A start without a slope, from which the ground falls off to the sides: factors that are near zero."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault


class Product(nn.Module):
    """Affine maps without biases, with tanh between them: at zero weights all first derivatives are zero."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth, outputs]
        self.maps = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in list(self.maps)[:-1]:
            x = layer(x).tanh()
        return self.maps[-1](x)


def started(scale: float | None) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        if scale is not None:
            for p in model.parameters():
                nn.init.normal_(p, 0.0, scale) if scale else nn.init.zeros_(p)

    return change


@fault(
    "saddle-point",
    bases=names(task="digits wine diabetes friedman table labels", net="mlp mlp-custom"),
    also=("symmetric-init", "init-scale", "plateau"),
    twinned=True,
    grades={"0.1": 0.1, "1e-4": 1e-4, "1e-7": 1e-7, "0": 0.0},
)
def at_the_origin(base: Base, scale: float) -> Sick:
    def of(given: float | None) -> object:
        def make() -> nn.Module:
            inputs = base.task.train[0][0].numel()
            model = Product(inputs, base.task.outputs, 32, 2)
            started(given)(model)
            return model

        return make

    twin = Setup(base.problem(model=of(None)), base.recipe)
    return Sick(base.problem(model=of(scale)), base.recipe, twin)
