"""A class so rare that the accuracy does not miss it; judged by F1 where all classes are equally frequent."""

from __future__ import annotations

import torch

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Setup, Sick, fault
from bench.diagnosis.tasks import Pair


@fault(
    "class-imbalance",
    bases=names(task="many-moons table moons digits images"),
    grades={"1:1": 1, "1:4": 4, "1:20": 20, "1:100": 100},
)
def rare(base: Base, ratio: int) -> Sick:
    """All classes but the first keep one example in `ratio`, in training and in validation."""

    def thinned(pair: Pair) -> Pair:
        y = pair[1].flatten()
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(base.stream))
        kept = [order[y[order] == y.min()]]
        for label in torch.unique(y)[1:]:
            rows = order[y[order] == label]
            kept.append(rows[: max(2, len(rows) // ratio)])
        rows = torch.cat(kept)
        return pair[0][rows], pair[1][rows]

    task = base.task.mapped(thinned)
    judge = base.problem(metric="f1")
    steps = base.recipe.epochs * -(-len(base.task.train[0]) // 64)
    recipe = base.recipe.edit(steps=steps)
    return Sick(base.problem(task), recipe, Setup(judge, recipe), judge=judge)
