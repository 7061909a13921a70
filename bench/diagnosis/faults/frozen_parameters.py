"""Parameters that no step changes: requires_grad off, left out of the optimizer, cut off in the forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.nets import Knobs, factory

SOME = names(task="digits wine cancer friedman circles product labels images rows motifs adding")


@fault(
    "frozen-parameters",
    way="requires_grad",
    bases=SOME,
    grades={"first bias": "first bias", "all but the last bias": "rest"},
)
def switched_off(base: Base, what: str) -> Sick:
    def change(model: nn.Module) -> None:
        held = list(model.parameters())
        for p in held[1:2] if what == "first bias" else held[:-1]:
            p.requires_grad_(False)

    return Sick(base.problem(change=change), base.recipe)


@fault(
    "frozen-parameters",
    way="optimizer",
    bases=names(task="digits circles product friedman images rows"),
    grades={"last bias": slice(0, -1), "all but the last bias": slice(-1, None)},
)
def left_out(base: Base, kept: slice) -> Sick:
    lr = base.recipe.lr

    def made(params: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(list(params)[kept], lr=lr)

    plain = base.recipe.edit(optimizer="adam")
    recipe = plain.edit(optimizer=made)
    return Sick(base.problem(), recipe, Setup(base.problem(), plain))


class CutOff(nn.Module):
    """The trunk's features are detached on their way to the head."""

    def __init__(self, trunk: nn.Module, width: int, outputs: int, cut: bool) -> None:
        super().__init__()
        self.trunk, self.head, self.cut = trunk, nn.Linear(width, outputs), cut

    def forward(self, x: Tensor) -> Tensor:
        features = torch.relu(self.trunk(x))
        return self.head(features.detach() if self.cut else features)


@fault(
    "frozen-parameters",
    way="detach",
    bases=names(net="mlp mlp-custom"),
    twinned=True,
    grades={"wide": 256, "narrow": 4},
)
def cut_off(base: Base, width: int) -> Sick:
    """Random features are as good as learnt ones where there are many."""

    def of(cut: bool) -> Any:
        trunk = factory(base.net, base.task, Knobs(width=48, depth=1))

        def make() -> nn.Module:
            made = trunk()
            last = [m for m in made.modules() if isinstance(m, nn.Linear)][-1]
            head = nn.Linear(last.in_features, width)
            whole: Any = nn.Sequential(*list(made.children())[:-1], head) if base.net == "mlp" else made
            if base.net != "mlp":
                whole.head = head
            return CutOff(whole, width, base.task.outputs, cut)

        return make

    return Sick(base.problem(model=of(True)), base.recipe, Setup(base.problem(model=of(False)), base.recipe))
