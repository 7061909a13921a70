"""Training data in the order of its classes, served without shuffling."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault(
    "unshuffled-data",
    bases=names(task="digits wine friedman table images rows cancer motifs"),
    grades={"in no order": False, "sorted": True},
)
def in_order(base: Base, ordered: bool) -> Sick:
    x, y = base.task.train
    if ordered:
        rows = torch.argsort(y.flatten(), stable=True)
        x, y = x[rows], y[rows]
    loader: Any = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=False)
    return Sick(base.problem().edit(train=loader), base.recipe)
