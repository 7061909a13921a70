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

__all__ = ["ADAPTIVE", "method_of", "preconditioner", "stable_limit", "why_unlimited"]

_MOMENTUM = {"gd", "sgd", "momentum", "nesterov"}
_TORCH = {"NAdam": "nadam", "RAdam": "radam", "Adamax": "adamax", "Adadelta": "adadelta"}
"""Adaptive methods of torch alone, by the names of their classes."""

ADAPTIVE = {"adagrad", "rmsprop", "adam", "adamw", *_TORCH.values()}
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
    if spelt in _TORCH:
        return _TORCH[spelt]
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
    Adadelta               ``2 / lr``, preconditioned
    Adam, AdamW            ``(2 + 2 b1) / ((1 - b1) lr)``, preconditioned; 38 / lr at b1 = 0.9
    RAdam, Adamax          as Adam, preconditioned each by its own scale
    NAdam                  ``2 / ((a + b (1 - b1) / (1 + b1)) lr)``, preconditioned
    =====================  ==========================================================

    NAdam steps by ``a g + b m``: ``a = (1 - mu) / (1 - prod mu)``, ``b = mu' / (1 - mu' prod mu)`` with the
    mu of the last step and the next; they tend to ``1 - b1`` and ``b1``, which gives 13.6 / lr at b1 = 0.9,
    from 3.6 / lr early on.

    Coupled decay of plain and momentum methods counts as curvature and is taken off; where it is decoupled
    under an adaptive scale the first 2 becomes ``2 - lr weight_decay``. Coupled decay under an adaptive scale
    is left out, and so is AdaGrad's `lr_decay`.

    Args:
        optimizer: an optimizer, a name, or a reference such as ``"torch.optim:Adam"``; of NAdam the optimizer
            tells how far mu has come, a name stands for the end.
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
    decoupled = name == "adamw" or bool(group.get("decoupled_weight_decay"))
    shrink = lr * float(group.get("weight_decay", 0.0)) if decoupled else 0.0
    if name == "adadelta":
        return _over(2.0, lr)
    if name == "nadam":
        now, late = _mixed(optimizer, group)
        b1 = _first_beta(group)
        return max(_over(2.0 - shrink, (now + late * (1.0 - b1) / (1.0 + b1)) * lr), 0.0)
    if name in {"adam", "adamw", "radam", "adamax"}:
        b1 = _first_beta(group)
        return max(_over((1.0 + b1) * (2.0 - shrink), (1.0 - b1) * lr), 0.0)
    mu = float(group.get("momentum", 0.0))
    gain = 1.0 - float(group.get("dampening", 0.0)) if mu else 1.0
    if name == "nesterov" or group.get("nesterov"):
        limit = _over(2.0 * (1.0 + mu), (1.0 + 2.0 * mu) * lr)
    else:
        limit = _over(2.0 * (1.0 + mu), gain * lr)
    coupled = float(group.get("weight_decay", 0.0)) if name in _MOMENTUM else 0.0
    return max(limit - coupled, 0.0)


def why_unlimited(optimizer: torch.optim.Optimizer) -> str:
    """Why no stable limit is known for a method, in one sentence."""
    name, owner = type(optimizer).__name__, type(optimizer).__module__
    if method_of(optimizer) is not None:
        return f"{name} has no scale before its first step, so there is no limit to hold against"
    if owner.startswith("downslope.terrain"):
        return f"{name} measures the curvature and chooses its step by it: no fixed limit bounds it"
    if name == "LBFGS":
        return "LBFGS builds up curvature of its own and steps by it: no fixed limit bounds it"
    if name in ("Rprop", "Lion", "SignSGD"):
        return f"{name} steps by signs of the gradient, as far on flat ground as on sharp: no limit bounds it"
    whose = "" if owner.startswith(("torch.optim", "downslope.optim")) else "one's own method, "
    return f"no stable limit is known for {whose}{name}: the sharpness is that of the Hessian itself"


def _first_beta(group: Mapping[str, Any]) -> float:
    return float(group["betas"][0])


def _mixed(optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any]) -> tuple[float, float]:
    """How NAdam weighs the gradient and its mean, in its present state."""
    b1 = _first_beta(group)
    found = {} if isinstance(optimizer, str) else _first_state(optimizer, group)
    if "mu_product" not in found:
        return 1.0 - b1, b1
    t, made = float(found["step"]), float(found["mu_product"])
    mu, ahead = (b1 * (1.0 - 0.5 * 0.96 ** (s * float(group["momentum_decay"]))) for s in (t, t + 1.0))
    return (1.0 - mu) / (1.0 - made), ahead / (1.0 - made * ahead)


def _first_state(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """The state of the first parameter of a group that has one."""
    for p in group.get("params", ()):
        if p in optimizer.state:
            return cast("dict[str, Any]", optimizer.state[p])
    return {}


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.inf


def preconditioner(optimizer: torch.optim.Optimizer, param: Tensor) -> Tensor | None:
    """The diagonal by which an adaptive method multiplies the gradient of `param`, in its present state.

    ``1 / (sqrt(vhat) + eps)``, without lr. Momentum is not part of it. For centred RMSProp the variance
    stands for v, for AMSGrad the largest v. Adamax has ``1 / u``, u its infinity norm, Adadelta
    ``sqrt(u + eps) / sqrt(v + eps)``, u its mean of squared steps, and RAdam its rectification as a factor,
    or 1 in the first steps, in which it does not scale.

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
    eps = float(group["eps"])
    if name == "adamax":
        return 1.0 / state["exp_inf"]
    if name == "adadelta":
        return ((state["acc_delta"] + eps) / (state["square_avg"] + eps)).sqrt()
    if name == "radam":
        return _rectified(state, float(group["betas"][1]), eps)
    square = _second_moment(name, state, group)
    return None if square is None else 1.0 / (square.sqrt() + eps)


def _rectified(state: Mapping[str, Any], b2: float, eps: float) -> Tensor:
    """RAdam's scale (Liu et al. 2020, On the variance of the adaptive learning rate, algorithm 2)."""
    t, most = float(state["step"]), 2.0 / (1.0 - b2) - 1.0
    left = 1.0 - b2**t
    rho = most - 2.0 * t * b2**t / left
    if rho <= 5.0:
        return torch.ones_like(state["exp_avg_sq"])
    factor = math.sqrt((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho) * left)
    return factor / (state["exp_avg_sq"].sqrt() + eps)


def _second_moment(name: str, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor | None:
    if name == "adagrad":
        # torch makes AdaGrad's state before any step; then there is nothing to tell yet.
        return state["sum"] if float(state["step"]) > 0 else None
    if name == "rmsprop":
        return state["square_avg"] - state["grad_avg"] ** 2 if group.get("centered") else state["square_avg"]
    largest: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
    return largest / (1.0 - float(group["betas"][1]) ** float(state["step"]))
