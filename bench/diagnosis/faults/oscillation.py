"""Steps that jump over the valley: momentum so heavy, or a rate so near the limit, that nothing settles."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "oscillation",
    bases=names(method="sgd momentum", net="mlp mlp-custom cnn-custom"),
    also=("learning-rate-too-high",),
    grades={"0.5": 0.5, "0.99": 0.99, "0.999": 0.999},
)
def heavy(base: Base, momentum: float) -> Sick:
    """The step in the long run is lr / (1 - momentum)."""
    recipe = base.recipe.edit(momentum=momentum)
    return Sick(base.problem(), recipe, judged="last metric")


@fault(
    "oscillation",
    way="full batch",
    also=("learning-rate-too-high",),
    twinned=True,
    bases=names(task="diabetes wine cancer friedman", method="sgd momentum"),
    grades={"0.5 of the limit": 0.5, "0.98 of the limit": 0.98, "1.02 of the limit": 1.02},
)
def at_the_limit(base: Base, share: float) -> Sick:
    """Linear regression by gradient descent: its limit is 2 over the largest eigenvalue."""
    import torch
    from torch import nn

    from bench.diagnosis.fault import Setup

    x, y = base.task.train
    y = torch.nn.functional.one_hot(y).float() if y.dtype == torch.int64 else y
    task = base.task.trained_on((x, y)).mapped(lambda pair: pair)
    xv, yv = task.valid
    yv = torch.nn.functional.one_hot(yv).float() if yv.dtype == torch.int64 else yv
    ones = torch.cat([x, torch.ones(len(x), 1)], 1).double()
    hessian = 2 * ones.T @ ones / len(x) / y.shape[1]
    limit = 2 / float(torch.linalg.eigvalsh(hessian)[-1])

    def made() -> nn.Module:
        return nn.Linear(x.shape[1], y.shape[1])

    problem = base.problem(task, model=made, objective=nn.MSELoss(), metric="r2").edit(valid=(xv, yv))
    recipe = base.recipe.edit(optimizer="gd", batch_size="full", steps=150, lr=share * limit)
    return Sick(problem, recipe, Setup(problem, recipe.edit(lr=0.5 * limit)), judged="last metric")
