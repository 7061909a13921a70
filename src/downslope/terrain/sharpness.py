"""Sharpness: the largest eigenvalue of the Hessian, which bounds the learning rate that is stable.

Plain gradient descent contracts every direction while ``lr < 2 / sharpness``. An adaptive method sees the
Hessian through its own scale D: what matters then is ``D^(1/2) H D^(1/2)`` (Cohen et al. 2022, Adaptive
gradient methods at the edge of stability).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.hvp import Closure, Hessian, flat
from downslope.terrain.lanczos import Status, lanczos
from downslope.terrain.operators.scaled import Scaled


class Sharpness(NamedTuple):
    """The largest eigenvalue, with what is known of its error."""

    value: float
    """NaN where the loss or its curvature is not finite."""
    residual: float
    """An exact eigenvalue lies within this distance; the error itself is usually far smaller."""
    steps: int
    """Hessian-vector products."""
    status: Status
    """"converged", "steps" (the tolerance was not reached), "exhausted" (exact) or "non-finite"."""
    exact: bool
    """False where the products were differences of gradients."""


def sharpness(
    loss_fn: Closure,
    params: Sequence[Tensor],
    scale: Sequence[Tensor] | None = None,
    *,
    tol: float = 1e-2,
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> Sharpness:
    """The largest eigenvalue of the Hessian of ``loss_fn()``, or of ``D^(1/2) H D^(1/2)``.

    Costs one gradient with its graph and about 1.6 gradients a step. Gradients, parameters and the global
    random state are left as they were.

    Args:
        loss_fn: computes the scalar loss anew at each call, on one fixed batch.
        params: the parameters; frozen ones are left out, unused ones count as flat.
        scale: D, one non-negative tensor for each of `params` in its shape, such as Adam's
            ``1 / (sqrt(v_hat) + eps)``; by default 1.
        tol: stop when the residual is below this share of the value, float in (0, 1); the error of the
            value is of the order of its square.
        steps: products at most, at least 1.
        generator: of the start vector, on the CPU; by default seed 0.

    Returns:
        Value, residual and steps.

    Raises:
        ModelError: no parameter needs a gradient.
        ObjectiveError: the loss is no scalar.
        InputError: `scale`, `tol` or `steps` outside its domain.
    """
    if not 0 < tol < 1 or steps < 1:
        raise InputError(f"tol={tol}, steps={steps}: tol must lie in (0, 1) and steps be at least 1")
    root = None if scale is None else _root(scale, params)
    hessian = Hessian(loss_fn, params)
    if not bool(hessian.gradient.isfinite().all()) or hessian.loss != hessian.loss:
        return Sharpness(float("nan"), float("inf"), 0, "non-finite", hessian.exact)

    working = torch.promote_types(hessian.gradient.dtype, torch.float32)

    seen = hessian if root is None else Scaled(hessian, root.to(working))
    drawn = generator or torch.Generator().manual_seed(0)
    start = torch.randn(hessian.size, generator=drawn, dtype=torch.float64)
    start = start.to(hessian.gradient.device, working)
    found = lanczos(seen.product, start, steps=steps, tol=tol)
    return Sharpness(found.top.value, found.top.residual, found.iterations, found.status, hessian.exact)


def _root(scale: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
    if [d.shape for d in scale] != [p.shape for p in params]:
        raise InputError(
            f"scale: {len(scale)} tensors that do not have the shapes of the {len(params)} parameters"
        )
    kept = flat([d.to(p) for d, p in zip(scale, params, strict=True) if p.requires_grad] or [torch.zeros(0)])
    if not bool((kept >= 0).all()):
        raise InputError("scale: holds a negative or NaN entry; a step's scale is non-negative")
    return kept.sqrt()
