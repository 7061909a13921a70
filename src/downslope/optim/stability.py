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
from downslope.optim.radam import rectification

__all__ = ["ADAPTIVE", "decouples", "method_of", "preconditioner", "stable_limit", "why_unlimited"]

_MOMENTUM = {"gd", "sgd", "momentum", "nesterov", "averaged_momentum"}
_ADAMS = {"adam", "adamw", "adamax", "nadam", "radam", "adabelief", "adan", "ademamix"}

_FREE = {"schedule_free_sgd", "schedule_free_adamw"}

ADAPTIVE = {"adagrad", "rmsprop", "adadelta", "schedule_free_adamw", *_ADAMS}
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
    classes = {place.rpartition(":")[2]: name for name, place in names.TABLE["optimizer"].items()}
    try:
        name = classes.get(spelt) or names.canonical("optimizer", spelt)
    except UnknownNameError:
        return None
    return name if name in _MOMENTUM | ADAPTIVE | _FREE else None


def stable_limit(optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any]) -> float | None:
    """The curvature above which the steps of a method grow: of the Hessian, or preconditioned for adaptive
    ones.

    =====================  ==========================================================
    plain descent          ``2 / lr``
    heavy ball             ``2 (1 + mu) / ((1 - tau) lr)``; as an average, tau is mu
    Nesterov               ``2 (1 + mu) / ((1 + 2 mu) lr)``
    AdaGrad, RMSProp       as plain descent or heavy ball, preconditioned
    Adadelta               ``2 / lr``, preconditioned
    Adam, AdamW            ``(2 + 2 b1) / ((1 - b1) lr)``, preconditioned; 38 / lr at b1 = 0.9
    RAdam, Adamax          as Adam, preconditioned each by its own scale; AdaBelief too
    NAdam                  ``2 / ((a + b e(b1)) lr)``, preconditioned
    AdEMAMix               ``2 / ((e(b1) + alpha e(b3)) lr)``, preconditioned
    Adan                   ``2 / ((e(b1) + 2 b2 e(b2)) lr)``, preconditioned
    Schedule-Free          ``(4 - 2 c) / ((2 (1 - b) + (2 b - 1) c) lr)``; AdamW's preconditioned
    =====================  ==========================================================

    ``e(b) = (1 - b) / (1 + b)`` is what a mean with decay b leaves of a gradient that turns at every step.

    NAdam steps by ``a g + b m``: ``a = (1 - mu) / (1 - prod mu)``, ``b = mu' / (1 - mu' prod mu)`` with the
    mu of the last step and the next; they tend to ``1 - b1`` and ``b1``, which gives 13.6 / lr at b1 = 0.9,
    from 3.6 / lr early on.

    Schedule-Free's b is `momentum` or ``betas[0]``, its c the share of the newest z in the average, which
    falls to 0: from ``2 / lr`` at the first step to ``2 / ((1 - b) lr)``, 20 / lr at b = 0.9; over
    e(inner_momentum).

    Coupled decay of plain and momentum methods counts as curvature and is taken off; where it is decoupled
    under an adaptive scale the first 2 becomes ``2 - lr weight_decay``, of Adan's proximal decay ``2 + lr
    weight_decay``. Coupled decay under an adaptive scale
    is left out, and so is AdaGrad's `lr_decay`.

    Args:
        optimizer: an optimizer, a name, or a reference such as ``"torch.optim:Adam"``; of NAdam the optimizer
            tells how far mu has come, of Schedule-Free how far c; a name stands for the end.
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
    if name == "adadelta":
        return _over(2.0, lr)
    if name in _FREE:
        return max(_free_limit(optimizer, group, lr), 0.0)
    if name in _ADAMS:
        pull = lr * float(group.get("weight_decay", 0.0))
        turning = _over_two_steps(name, optimizer, group)
        return max(_over(2.0 - _off(name, group) * pull, turning * lr), 0.0)
    mu = float(group.get("momentum", 0.0))
    gain = 1.0 - float(group.get("dampening", mu if name == "averaged_momentum" else 0.0)) if mu else 1.0
    if name == "nesterov" or group.get("nesterov"):
        limit = _over(2.0 * (1.0 + mu), (1.0 + 2.0 * mu) * lr)
    else:
        limit = _over(2.0 * (1.0 + mu), gain * lr)
    coupled = float(group.get("weight_decay", 0.0)) if name in _MOMENTUM else 0.0
    return max(limit - coupled, 0.0)


def _free_limit(optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any], lr: float) -> float:
    """Schedule-Free's: y and z are one linear map, whose root stands at -1 there."""
    beta = float(group["momentum"] if "momentum" in group else group["betas"][0])
    state = {} if isinstance(optimizer, str) else _first_state(optimizer, group)
    c = 0.0
    if float(state.get("weight_sum", 0.0)):
        t, largest = float(state["step"]), float(state["lr_max"])
        weight = t ** float(group["r"]) * largest ** float(group["weight_lr_power"])
        c = weight / float(state["weight_sum"])
    inner = float(group.get("inner_momentum", 0.0))
    turning = (1.0 - inner) / (1.0 + inner)
    limit = _over(4.0 - 2.0 * c, (2.0 * (1.0 - beta) + (2.0 * beta - 1.0) * c) * lr)
    return (limit - float(group.get("weight_decay", 0.0))) / turning


def decouples(name: str | None, group: Mapping[str, Any]) -> bool:
    """Whether a method's decay is of the parameters themselves, and not added to the gradient."""
    return name in ("adamw", "adan", "ademamix", "lion", "schedule_free_adamw") or bool(
        group.get("decoupled_weight_decay")
    )


def _off(name: str, group: Mapping[str, Any]) -> float:
    """Share of the decay that is taken off p itself before the step; -1 where it is taken after it."""
    return -1.0 if name == "adan" and not group.get("no_prox") else float(decouples(name, group))


def _over_two_steps(name: str, optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any]) -> float:
    """What a method's means leave of a gradient that turns at every step, in the long run."""
    means = [(1.0 - float(b)) / (1.0 + float(b)) for b in group["betas"]]
    if name == "nadam":
        now, late = _mixed(optimizer, group)
        return now + late * means[0]
    if name == "ademamix":
        return means[0] + float(group["alpha"]) * means[2]
    if name == "adan":
        return means[0] + 2.0 * float(group["betas"][1]) * means[1]
    return means[0]


def why_unlimited(optimizer: torch.optim.Optimizer) -> str:
    """Why no stable limit is known for a method, in one sentence."""
    name, owner = type(optimizer).__name__, type(optimizer).__module__
    if method_of(optimizer) is not None:
        return f"{name} has no scale before its first step, so there is no limit to hold against"
    if owner.startswith("downslope.terrain"):
        return f"{name} measures the curvature and chooses its step by it: no fixed limit bounds it"
    if name == "LBFGS":
        return "LBFGS builds up curvature of its own and steps by it: no fixed limit bounds it"
    if name in ("Rprop", "Lion", "Signum", "SignSGD"):
        return f"{name} steps by signs of the gradient, as far on flat ground as on sharp: no limit bounds it"
    if name == "Muon":
        return "Muon steps as far along every singular vector, on flat ground as on sharp: no limit bounds it"
    whose = "" if owner.startswith(("torch.optim", "downslope.optim")) else "one's own method, "
    return f"no stable limit is known for {whose}{name}: the sharpness is that of the Hessian itself"


def _mixed(optimizer: torch.optim.Optimizer | str, group: Mapping[str, Any]) -> tuple[float, float]:
    """How NAdam weighs the gradient and its mean, in its present state."""
    b1 = float(group["betas"][0])
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
    ``sqrt(u + eps) / sqrt(v + eps)``, u its mean of squared steps, RAdam its rectification as a factor, or 1
    in the first steps, in which it does not scale; AdaBelief has its mean squared deviation in place of v.

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
    if name == "radam" or group.get("rectify"):
        square = state["exp_avg_sq" if name == "radam" else "exp_avg_var"]
        return _rectified(square, float(state["step"]), float(group["betas"][1]), eps)
    square = _second_moment(name, state, group)
    return None if square is None else 1.0 / (square.sqrt() + eps)


def _rectified(square: Tensor, t: float, b2: float, eps: float) -> Tensor:
    """RAdam's scale."""
    trusted, factor = rectification(int(t), b2)
    if not trusted:
        return torch.ones_like(square)
    return factor * math.sqrt(1.0 - b2**t) / (square.sqrt() + eps)


def _second_moment(name: str, state: Mapping[str, Any], group: Mapping[str, Any]) -> Tensor | None:
    if name == "adagrad":
        # torch makes AdaGrad's state before any step; then there is nothing to tell yet.
        return state["sum"] if float(state["step"]) > 0 else None
    if name == "rmsprop":
        return state["square_avg"] - state["grad_avg"] ** 2 if group.get("centered") else state["square_avg"]
    key = "exp_avg_var" if name == "adabelief" else "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
    beta = float(group["betas"][2 if name == "adan" else 1])
    return state[key] / (1.0 - beta ** float(state["step"]))
