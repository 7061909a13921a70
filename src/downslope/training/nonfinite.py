"""The first non-finite value of a run, named: loss, gradient or weight, module, step and batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.data.inspect import non_finite


def name_first(model: nn.Module, objective: Objective, batch: Any) -> dict[str, Any]:
    """Where the numbers end for `model` on `batch`: the batch itself, a weight, an output, or the loss.

    Args:
        model: As it stood when the loss came out non-finite.
        objective: The run's objective.
        batch: The batch of that step, so that it can be replayed.

    Returns:
        ``what`` ("input", "weight", "output" or "loss") and ``module`` (qualified name, or None).
    """
    for tensor in batches.tensors(batch):
        if non_finite(tensor)["count"]:
            return {"what": "input", "module": None, "first": non_finite(tensor)["first"]}
    inner = unwrap(model)
    if (broken := name_weight(model)) is not None:
        return {"what": "weight", "module": broken}
    found: list[str] = []
    handles = [
        each.register_forward_hook(_hook(name, found))
        for name, each in named_modules(inner)
        if not any(True for _ in each.children())
    ]
    try:
        with torch.no_grad():
            objective(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {"what": "output", "module": found[0]} if found else {"what": "loss", "module": None}


def name_weight(model: nn.Module) -> str | None:
    """The first module that holds a parameter which is not finite; None if all are."""
    for name, parameter in unwrap(model).named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name.rpartition(".")[0] or "model"
    return None


def name_gradient(model: nn.Module) -> str | None:
    """The module nearest to the loss whose gradient is not finite; None if all are."""
    for name, parameter in reversed(list(unwrap(model).named_parameters())):
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return name.rpartition(".")[0] or "model"
    return None


def _hook(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        if not found and any(
            leaf.is_floating_point() and not bool(torch.isfinite(leaf).all())
            for leaf in batches.tensors(output)
        ):
            found.append(name or "model")

    return hook
