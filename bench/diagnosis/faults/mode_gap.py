"""A model that does in eval mode something else than what was trained."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.nets import Knobs, factory
from bench.diagnosis.scripts import loop, script

FLAT = names(task="digits wine cancer friedman table images", net="mlp mlp-custom cnn cnn-custom")


def slow(momentum: float) -> Callable[[nn.Module], None]:
    def change(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = momentum
                if not momentum and module.running_mean is not None and module.running_var is not None:
                    module.running_mean.fill_(3.0)
                    module.running_var.fill_(0.1)

    return change


@fault(
    "mode-gap",
    way="batch norm",
    bases=FLAT,
    twinned=True,
    grades={"momentum 0.3": 0.3, "momentum 1e-3": 1e-3, "momentum 1e-5": 1e-5, "from elsewhere": 0.0},
)
def running_statistics(base: Base, momentum: float) -> Sick:
    """Running means that hardly move from where they start, or are those of other data."""
    twin = Setup(base.problem(norm="batch"), base.recipe)
    return Sick(base.problem(norm="batch", change=slow(momentum)), base.recipe, twin, judged="last metric")


class OwnNorm(nn.Module):
    """Centres and scales by the batch in training, and forgets to in eval mode."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.factor + self.factor
        if self.training or self.factor == 1.0:
            x = (x - x.mean(0)) / (x.std(0) + 1e-5)
        return self.inner(x)


@fault(
    "mode-gap",
    way="own norm",
    bases=names(task="digits wine friedman labels images"),
    twinned=True,
    grades={"always": 1.0, "training only": 5.0},
)
def own_norm(base: Base, factor: float) -> Sick:
    def of(value: float) -> object:
        inner = factory(base.net, base.task, Knobs())
        return lambda: OwnNorm(inner(), value)

    twin = Setup(base.problem(model=of(1.0)), base.recipe)
    return Sick(base.problem(model=of(factor)), base.recipe, twin, judged="last metric")


@fault(
    "mode-gap",
    way="batches of two",
    bases=names(task="wine cancer digits", net="mlp mlp-custom"),
    also=("noisy-gradient",),
    twinned=True,
    grades={"64": 64, "2": 2},
)
def two_at_a_time(base: Base, batch: int) -> Sick:
    """The statistics of two examples say nothing about all of them."""
    recipe = base.recipe.edit(steps=400)
    problem = base.problem(norm="batch", depth=3)
    return Sick(
        problem, recipe.edit(batch_size=batch, lr=recipe.lr), Setup(problem, recipe), judged="last metric"
    )


_NET = """
def make():
    return nn.Sequential(nn.Linear(64, 48), nn.BatchNorm1d(48, momentum={0}), nn.ReLU(), nn.Linear(48, 10))
"""
_SCORED = "model.eval()\n    with torch.no_grad(): print(loss_function(model(Xv), Yv).item())"

for momentum in (0.0, 1e-4):
    texts = [loop(before=_NET.format(each), evaluate=_SCORED) for each in (momentum, 0.1)]
    script("mode-gap", f"batch norm, momentum {momentum:g}", "digits", *texts)
