"""Units that start alike and so stay alike."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


def alike(value: float) -> Callable[[nn.Module], None]:
    """Every weight and bias the same; embeddings and norms stay as they are."""

    def change(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d | nn.LayerNorm | nn.Embedding):
                continue
            for p in module.parameters(recurse=False):
                nn.init.constant_(p, value)

    return change


@fault(
    "symmetric-init",
    bases=(*names(task="digits wine friedman moons table images"), *names(net="rnn gru lstm-custom")),
    grades={"0.1": 0.1, "0.01": 0.01, "0": 0.0},
)
def all_alike(base: Base, value: float) -> Sick:
    return Sick(base.problem(change=alike(value)), base.recipe)


@fault(
    "symmetric-init",
    way="pairs",
    bases=names(task="digits friedman", net="mlp mlp-custom"),
    grades={"eighth": 8},
)
def copies(base: Base, times: int) -> Sick:
    """Units in groups of `times` copies: only every `times`-th counts. Wide nets do not mind."""

    def change(model: nn.Module) -> None:
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear)]:
            if layer.out_features % times == 0:
                kept = layer.out_features // times
                layer.weight.data.copy_(layer.weight.data[:kept].repeat(times, 1))
                layer.bias.data.copy_(layer.bias.data[:kept].repeat(times))

    return Sick(base.problem(change=change), base.recipe)
