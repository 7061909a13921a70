"""What is trained beside the model: the parameters of an objective that has some."""

from __future__ import annotations

import torch
from torch import nn

from downslope.core.loss import Objective, learnt


def train_beside(objective: Objective, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the objective where the model is, and its parameters into a group of the optimizer without decay.

    Args:
        objective: Of the run; left alone where it learns nothing.
        model: On its device, in its precision.
        optimizer: Of the model.
    """
    module = learnt(objective.function)
    if module is None:
        return
    like = next(model.parameters())
    module.to(like.device, like.dtype)
    group = {"params": [p for p in module.parameters() if p.requires_grad]}
    optimizer.add_param_group(group | ({"weight_decay": 0.0} if "weight_decay" in optimizer.defaults else {}))
