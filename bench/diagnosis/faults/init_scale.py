"""Weights drawn with one deviation for all layers, too small or too large."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


def drawn(scale: float) -> Callable[[nn.Module], None]:
    """All weights drawn anew with one deviation, whatever the fan in; biases 0."""

    def change(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.LayerNorm | nn.Embedding):
                continue
            for p in module.parameters(recurse=False):
                if p.dim() > 1:
                    nn.init.normal_(p, 0.0, scale)
                else:
                    nn.init.zeros_(p)

    return change


PLAIN = names(task="digits wine cancer diabetes friedman moons labels table images")


@fault("init-scale", way="small", bases=PLAIN, grades={"0.05": 0.05, "1e-3": 1e-3, "1e-4": 1e-4})
def too_small(base: Base, scale: float) -> Sick:
    return Sick(base.problem(change=drawn(scale)), base.recipe)


@fault(
    "init-scale",
    way="large",
    bases=(*PLAIN, *names(task="rows motifs adding")),
    grades={"0.3": 0.3, "1": 1.0, "3": 3.0, "10": 10.0},
)
def too_large(base: Base, scale: float) -> Sick:
    return Sick(base.problem(change=drawn(scale)), base.recipe)
