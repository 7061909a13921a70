"""The first non-finite value of a run, named: loss, gradient or weight, module, step and batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.class_targets import IGNORED
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.data.inspect import non_finite

MEAN_OF_NONE = "a mean over none"
"""A quotient of nothing by no examples: the operation at which such a loss leaves the numbers."""


def name_first(model: nn.Module, objective: Objective, batch: Any) -> dict[str, Any]:
    """Where the numbers end for `model` on `batch`: the batch itself, a weight, an output, or the loss.

    Args:
        model: As it stood when the loss came out non-finite.
        objective: The run's objective.
        batch: The batch of that step, so that it can be replayed.

    Returns:
        ``what`` ("input", "weight", "output" or "loss") and ``module`` (qualified name, or None); of a loss
        that is a mean over targets which all are left out also ``arithmetic``, that operation.
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
    if found:
        return {"what": "output", "module": found[0]}
    return {"what": "loss", "module": None} | _all_ignored(objective, batch)


def _all_ignored(objective: Objective, batch: Any) -> dict[str, Any]:
    """What a classifier's loss is the mean of, where the batch has no target that counts."""
    target = objective.split(batch)[2]
    index = int(getattr(objective.function, "ignore_index", IGNORED))
    if not isinstance(target, Tensor) or target.dtype != torch.long or bool((target != index).any()):
        return {}
    told = {"operation": MEAN_OF_NONE, "given": 0.0, "count": 1, "of": target.numel()}
    return {"arithmetic": told | ({"ignored": index} if target.numel() else {})}


def name_weight(model: nn.Module) -> str | None:
    """The first module that holds a parameter which is not finite; None if all are."""
    for name, parameter in unwrap(model).named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return name.rpartition(".")[0] or "model"
    return None


def gradients(model: nn.Module) -> dict[str, Any]:
    """Which modules have a gradient that is not finite, as `parted` tells it."""
    named = unwrap(model).named_parameters()
    return parted((name, each.grad) for name, each in named if each.grad is not None)


def parted(named: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """The modules of parameters parted by whether what stands for their gradients is finite.

    Args:
        named: Name of a parameter, and its gradient or what keeps its values.

    Returns:
        ``bad`` and ``sound``, names of modules in the order given, and ``every``: whether no element of any
        tensor is finite, as after NaN was clipped by the norm of all.
    """
    bad, sound, every = dict[str, None](), dict[str, None](), True
    for name, tensor in named:
        there = torch.isfinite(tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach())
        module = name.rpartition(".")[0] or "model"
        (sound if bool(there.all()) else bad)[module] = None
        every = every and not bool(there.any())
    return {"bad": [*bad], "sound": [each for each in sound if each not in bad], "every": every}


def _hook(name: str, found: list[str]) -> Any:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        if not found and any(
            leaf.is_floating_point() and not bool(torch.isfinite(leaf).all())
            for leaf in batches.tensors(output)
        ):
            found.append(name or "model")

    return hook
