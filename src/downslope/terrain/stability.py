"""The sharpness that an optimizer feels, beside the one that it can stand.

A method is stable while the largest eigenvalue of the Hessian, as it sees it, stays below a limit of its own:
``2 / lr`` for plain descent, ``38 / lr`` for Adam on ``D^(1/2) H D^(1/2)`` with ``D = 1 / (sqrt(v_hat) +
eps)`` (`downslope.optim.stability`). In full-batch training the sharpness rises to that limit and stays
there: the edge of stability (Cohen et al. 2021, Gradient descent on neural networks typically occurs at the
edge of stability; 2022, Adaptive gradient methods at the edge of stability).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core.errors import InputError
from downslope.optim.stability import ADAPTIVE, method_of, preconditioner, stable_limit, why_unlimited
from downslope.terrain.ground import Ground
from downslope.terrain.hvp import flat
from downslope.terrain.lanczos import Status
from downslope.terrain.operators import Curvature, Operator
from downslope.terrain.operators.scaled import Scaled
from downslope.terrain.spectrum.extremes import extremes


class Stability(NamedTuple):
    """Sharpness and limit of one optimizer in its present state."""

    sharpness: float
    """Largest eigenvalue of the Hessian as the method sees it; NaN where it is not finite."""
    residual: float
    """An exact eigenvalue lies within it."""
    error: float
    """Estimate of the error of the value, usually far below the residual."""
    limit: float | None
    """Above it steps along that direction grow; None for a method whose limit is not known."""
    ratio: float | None
    """``sharpness / limit``, 0 where nothing curves upwards; above 1 the method is at its edge or past it."""
    preconditioned: bool
    """Whether the Hessian was seen through the method's own scale."""
    products: int
    """Products with the Hessian."""
    status: Status
    why: str | None = None
    """Why there is no limit, or what of the sharpness is not the method's own; None where nothing is."""


UNSEEN = 1e3
"""Gradient, in the method's own scale, from which on it cannot have met such: Adam's at its default betas is
32 at most in the step in which it comes."""


def stability(
    ground: Ground, optimizer: torch.optim.Optimizer, model: nn.Module | None = None, *, tol: float = 1e-2,
    steps: int = 30, seed: int = 0,
) -> Stability:  # fmt: skip
    """How sharp the ground is to an optimizer, against what it can stand.

    Groups with rates (or momenta) of their own have limits of their own: the Hessian is scaled by their ratio
    to the limit of the group that holds most parameters, so that one number says whether any of them is
    unstable. Coupled decay counts as curvature: taken off the limit where all groups decay alike, added to
    the Hessian else.

    A scale says what gradients the method has met. Where the ground has others, a thousand times as large, it
    is not what was gone down on (a bias before batch norm has no slope in training, and a large one in
    evaluation mode): such entries are held still, and told. `ground_of` measures in training mode with
    ``training=True``.

    Args:
        ground: Where the optimizer stands, in the mode in which it steps.
        optimizer: Its groups, and the state of an adaptive method after at least one step.
        model: What the optimizer trains, where `ground` measures a copy: its parameters are matched by name.
        tol: Error of the sharpness that is good enough, as a share of it.
        steps: Products at most.
        seed: Of the start vector.

    Returns:
        Sharpness, limit and ratio. Parameters that the optimizer does not hold are held still. Before the
        first step of an adaptive method there is no scale yet: the Hessian's own sharpness, and no limit.
        Nor is there one for methods whose limit is not known; `why` says so.

    Raises:
        InputError: the optimizer holds none of the ground's parameters.
    """
    held = _held(ground, optimizer, model)
    hessian = ground.hessian()
    seen, limit, preconditioned, why = _seen(ground, hessian, optimizer, held)
    found = extremes(seen, 1, 0, tol=tol, steps=steps, seed=seed)
    value = found.largest
    ratio = max(value, 0.0) / limit if limit else None
    return Stability(
        value, float(found.residuals[0]), float(found.errors[0]), limit, ratio, preconditioned,
        found.products, found.status, why,
    )  # fmt: skip


Held = tuple[Tensor, Mapping[str, Any]] | None
"""The optimizer's own parameter and its group; None for one that it does not move."""


def _held(ground: Ground, optimizer: torch.optim.Optimizer, model: nn.Module | None) -> list[Held]:
    """For each of the ground's parameters."""
    own: list[Tensor] = list(ground.params)
    if model is not None:
        named = dict(model.named_parameters())
        own = [named[name] for name in ground.names]
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    held: list[Held] = [(p, groups[id(p)]) if id(p) in groups else None for p in own]
    if not any(held):
        raise InputError(
            "the optimizer holds none of the ground's parameters: hand over the model it trains (model=...)"
        )
    return held


def _seen(
    ground: Ground, hessian: Curvature, optimizer: torch.optim.Optimizer, held: list[Held]
) -> tuple[Operator, float | None, bool, str | None]:
    """The Hessian as the optimizer sees it, the limit that counts for it, whether it is preconditioned, and
    what is to be known of that.
    """
    limits = {id(each[1]): _limit(optimizer, each[1]) for each in held if each is not None}
    scales = [None if each is None else preconditioner(optimizer, each[0]) for each in held]
    adaptive = method_of(optimizer) in ADAPTIVE
    unknown = any(each is None for each in limits.values())
    waiting = adaptive and all(each is None for each in scales)
    whole = [each for each in held if each is not None]
    decays = {_decay(optimizer, each[1]) for each in whole}
    if unknown or waiting:
        return _still(ground, hessian, held), None, False, why_unlimited(optimizer)
    sizes: dict[int, int] = {}
    for p, group in whole:
        sizes[id(group)] = sizes.get(id(group), 0) + p.numel()
    reference = limits[max(sizes, key=lambda key: sizes[key])] or 0.0
    parts: list[Tensor] = []
    shifts: list[Tensor] = []
    for p, each, scale in zip(ground.params, held, scales, strict=True):
        of = 0.0 if each is None or (adaptive and scale is None) else _over(reference, limits[id(each[1])])
        parts.append(torch.full_like(p, of) if scale is None else of * scale.detach().to(p))
        shifts.append(torch.full_like(p, 0.0 if each is None else _decay(optimizer, each[1])))
    alike = len(decays) == 1
    if alike and not adaptive and all(bool((each == 1).all()) for each in parts):
        return hessian, max(reference - decays.pop(), 0.0), False, None
    felt, why = _wide(flat(parts)), None
    if adaptive and not any(group.get("centered") for _, group in whole):
        felt, why = _met(ground, hessian.likely(), felt)
    shift = None if alike else _wide(flat(shifts))
    limit = reference - (decays.pop() if alike else 0.0)
    return Scaled(hessian, felt.sqrt(), shift), limit, adaptive, why


def _met(ground: Ground, gradient: Tensor, scale: Tensor) -> tuple[Tensor, str | None]:
    """The scale without entries whose gradient the method cannot have met, and what is told of them."""
    sizes = gradient.abs().to(scale) * scale
    strange = sizes > UNSEEN
    if not bool(strange.any()):
        return scale, None
    where = next(name for name, part in ground.named(strange).items() if bool(part.any()))
    return scale.masked_fill(strange, 0.0), (
        f"{int(strange.sum())} of {len(scale)} entries, such as of {where}, have gradients here up to "
        f"{float(sizes.max()):.1g} times those that the method has met, and are held still: measure in the "
        "mode in which it steps (training=True), on its data"
    )


def _still(ground: Ground, hessian: Operator, held: list[Held]) -> Operator:
    """The Hessian with what the optimizer does not move held still."""
    if all(held):
        return hessian
    parts = [torch.full_like(p, float(each is not None)) for p, each in zip(ground.params, held, strict=True)]
    return Scaled(hessian, _wide(flat(parts)))


def _limit(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float | None:
    """The limit of a group; coupled decay is counted apart."""
    return stable_limit(optimizer, {**group, "weight_decay": 0.0} if _decay(optimizer, group) else group)


def _decay(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> float:
    """Coupled decay, which acts as curvature; 0 for what is decoupled or under an adaptive scale."""
    plain = method_of(optimizer) in {"gd", "sgd", "momentum", "nesterov", "averaged_momentum"}
    return float(group.get("weight_decay", 0.0)) if plain else 0.0


def _over(reference: float, limit: float | None) -> float:
    """The scale of a group beside the reference; one with a rate of 0 does not move."""
    if not limit or limit == float("inf"):
        return 0.0 if reference != float("inf") else 1.0
    return 1.0 if reference == limit else min(reference, 1e300) / limit


def _wide(vector: Tensor) -> Tensor:
    return vector.detach().to(torch.promote_types(vector.dtype, torch.float32))
