"""How sharp a curvature each method can stand, and by what it scales a gradient. For ours and for torch's
own.

A quadratic of curvature c makes each method a linear recurrence of two terms; the limit is the c at which its
characteristic polynomial has a root at -1. Adaptive methods are the same methods on the Hessian multiplied by
their diagonal `preconditioner`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import UnknownNameError

__all__ = ["ADAPTIVE", "method_of", "preconditioner", "stable_limit"]

_MOMENTUM = {"gd", "sgd", "momentum", "nesterov"}
ADAPTIVE = {"adagrad", "rmsprop", "adam", "adamw"}
"""Methods that see the Hessian through a diagonal scale of their own."""


def method_of(optimizer: torch.optim.Optimizer | str) -> str | None:
    """The short name of a method: ``"adam"`` for ``downslope.optim.Adam`` and ``torch.optim.Adam`` alike.

    Args:
        optimizer: an optimizer, a name, or a reference such as ``"torch.optim:Adam"``.

    Returns:
        None for methods that `stable_limit` does not know.
    """
    if isinstance(optimizer, str):
        spelt = optimizer.rpartition(":")[2]
    else:
        owner = type(optimizer).__module__
        if not owner.startswith(("torch.optim", "downslope.optim")):
            return None
        spelt = type(optimizer).__name__
    try:
        name = names.canonical("optimizer", spelt)
    except UnknownNameError:
        return None
    return name if name in _MOMENTUM | ADAPTIVE else None


def stable_limit(optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any]) -> float | None:
    """The curvature above which the steps of a method grow: of the Hessian, or preconditioned for adaptive
    ones.

    =====================  ==========================================================
    plain descent          ``2 / lr``
    heavy ball             ``2 (1 + mu) / ((1 - tau) lr)``
    Nesterov               ``2 (1 + mu) / ((1 + 2 mu) lr)``
    AdaGrad, RMSProp       as plain descent or heavy ball, preconditioned
    Adam, AdamW            ``(2 + 2 b1) / ((1 - b1) lr)``, preconditioned; 38 / lr at b1 = 0.9
    =====================  ==========================================================

    Coupled decay of plain and momentum methods counts as curvature and is taken off; with AdamW the first 2
    becomes ``2 - lr weight_decay``. Coupled decay under an adaptive scale is left out, and so is AdaGrad's
    `lr_decay`.

    Args:
        optimizer: an optimizer, a name, or a reference such as ``"torch.optim:Adam"``.
        group: the entries of its parameter group, `lr` among them.

    Returns:
        A number in (0, inf], inf where lr is 0; None for a method that is not known here.

    Source: Polyak 1964; O'Donoghue and Candès 2015, section 2; Cohen et al. 2022, "Adaptive gradient methods
    at the edge of stability", eq. 3, for Adam.
    """
    name = method_of(optimizer)
    if name is None:
        return None
    lr = float(group["lr"])
    if name in {"adam", "adamw"}:
        return _adam_limit(lr, name == "adamw" or bool(group.get("decoupled_weight_decay")), group)
    mu = float(group.get("momentum", 0.0))
    gain = 1.0 - float(group.get("dampening", 0.0)) if mu else 1.0
    if name == "nesterov" or group.get("nesterov"):
        limit = _over(2.0 * (1.0 + mu), (1.0 + 2.0 * mu) * lr)
    else:
        limit = _over(2.0 * (1.0 + mu), gain * lr)
    coupled = float(group.get("weight_decay", 0.0)) if name in _MOMENTUM else 0.0
    return max(limit - coupled, 0.0)


def _adam_limit(lr: float, decoupled: bool, group: Mapping[str, Any]) -> float:
    b1 = float(group["betas"][0])
    shrink = lr * float(group.get("weight_decay", 0.0)) if decoupled else 0.0
    return max(_over((1.0 + b1) * (2.0 - shrink), (1.0 - b1) * lr), 0.0)


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.inf


def preconditioner(optimizer: torch.optim.Optimizer, param: Tensor) -> Tensor | None:
    """The diagonal by which an adaptive method multiplies the gradient of `param`, in its present state.

    ``1 / (sqrt(vhat) + eps)``, without lr. Momentum is not part of it. For centred RMSProp the variance
    stands for v, for AMSGrad the largest v.

    Args:
        optimizer: one of ours, or torch's own.
        param: one of its parameters.

    Returns:
        A tensor of `param`'s shape, or None for a method that does not scale elements, or before the first
        step.
    """
    name = method_of(optimizer)
    if name not in ADAPTIVE:
        return None
    # `in` first: torch's table of states makes an entry for whatever it is asked.
    state = cast("dict[str, Any]", optimizer.state[param]) if param in optimizer.state else {}
    group = next((g for g in optimizer.param_groups if any(p is param for p in g["params"])), None)
    if not state or group is None:
        return None
    square = _second_moment(name, state, group)
    return None if square is None else 1.0 / (square.sqrt() + float(group["eps"]))


def _second_moment(name: str, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor | None:
    if name == "adagrad":
        # torch makes AdaGrad's state before any step; then there is nothing to tell yet.
        return state["sum"] if float(state["step"]) > 0 else None
    if name == "rmsprop":
        return state["square_avg"] - state["grad_avg"] ** 2 if group.get("centered") else state["square_avg"]
    largest: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return largest / (1.0 - float(group["betas"][1]) ** float(state["step"]))
