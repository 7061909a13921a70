"""The largest learning rate at which each method is stable on the curvature here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from downslope.optim.stability import stable_limit
from downslope.terrain.operators import Operator
from downslope.terrain.operators.scaled import Scaled
from downslope.terrain.spectrum import extremes

PLAIN: Mapping[str, Mapping[str, Any]] = {
    "gd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
"""Methods on the Hessian as it is, with their usual settings."""

EPS, BETAS = 1e-8, (0.9, 0.999)
"""Adam's, as usual."""


def plain_rates(sharpness: float) -> dict[str, float]:
    """The largest stable rate of methods that do not scale: the limit at a rate of 1, over the sharpness."""
    if not sharpness > 0:
        return {}
    limits = {name: stable_limit(name, {"lr": 1.0, **settings}) for name, settings in PLAIN.items()}
    return {name: limit / sharpness for name, limit in limits.items() if limit is not None}


def unlimited(high: float, error: float, *, kink: bool) -> str:
    """Why curvature sets no limit to the learning rate here; "" where it does.

    Args:
        high: The largest curvature.
        error: Its error.
        kink: Whether it stands on a kink that is a minimum.
    """
    if kink:
        return (
            "no learning rate is stable on a kink: the slope does not shrink as one comes nearer, so the "
            "rate has to (schedule='cosine', or any that goes to 0)"
        )
    return "" if high > error else (
        "nothing bends up here beyond its error, so curvature sets no limit to the learning rate"
    )  # fmt: skip


def adam_rate(operator: Operator, gradients: Tensor, *, steps: int = 16, seed: int = 0) -> tuple[float, int]:
    """Adam's largest stable rate, with the second moment that it would have if it stayed here.

    Args:
        operator: The Hessian.
        gradients: Of batches, shape (k, n): their mean square stands for Adam's ``v_hat``.
        steps: Products at most.
        seed: Of the start.

    Returns:
        The rate, infinite where nothing bends up, and the products it took.

    Source: Cohen et al. 2022, Adaptive gradient methods at the edge of stability, eq. 3.
    """
    moment = gradients.double().square().mean(0)
    root = (1.0 / (moment.sqrt() + EPS)).sqrt().to(gradients)
    found = extremes(Scaled(operator, root), 1, 0, tol=0.01, steps=steps, seed=seed, copies=False)
    limit = stable_limit("adam", {"lr": 1.0, "betas": BETAS})
    sharp = found.largest
    return (limit / sharp if limit is not None and sharp > 0 else float("inf")), found.products
