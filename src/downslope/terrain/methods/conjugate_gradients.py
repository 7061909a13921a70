"""Conjugate gradients on a system that may be indefinite: truncated, preconditioned, inside a trust region.

    minimise  m(p) = g.p + p.Hp / 2,   |p| <= radius

Steihaug 1983 and Toint 1981; Nocedal and Wright 2006, algorithm 7.2. Without a radius it is the inner loop
of Newton-CG (their algorithm 7.1) and of Hessian-free methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from downslope.terrain.hvp import length
from downslope.terrain.methods.line_search import dot

Ended = Literal["solved", "negative", "boundary", "steps", "non-finite"]


class Solved(NamedTuple):
    """What conjugate gradients found."""

    step: Tensor
    """p, shape (n,)."""
    products: int
    ended: Ended
    """"solved": to the tolerance. "negative": by a direction of negative curvature; "boundary": at the
    radius; "steps": after all products, or where no direction with curvature is left; "non-finite": a
    product was, and p is what was there before."""
    decrease: float
    """``-m(p)``, at least 0."""
    residual: float
    """``|g + H p|``."""
    direction: Tensor | None = None
    """The direction of negative curvature, with ``direction.g <= 0``."""


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    gradient: Tensor,
    *,
    tol: float,
    max_cg: int | None = None,
    radius: float = math.inf,
    precondition: Callable[[Tensor], Tensor] | None = None,
    start: Tensor | None = None,
    watch: Callable[[Tensor, float], bool] | None = None,
) -> Solved:
    """Go down the quadratic model from 0 (or `start`) until its residual is below `tol`.

    Args:
        product: ``v -> H v``, H symmetric.
        gradient: g, shape (n,).
        tol: Residual at which to stop, in the norm of g (of the preconditioner, where there is one).
        max_cg: Products at most; n if left out.
        radius: Of the trust region, in the Euclidean norm; none if left out. Negative curvature is followed
            to it; without one the step is what was reached before.
        precondition: ``r -> M^-1 r``, M positive definite.
        start: Where to begin, inside the radius; costs one product.
        watch: Sees each p on the way and the model there; True ends it.

    Returns:
        The step; with negative curvature met, its direction too.
    """
    state = _Model(product, gradient, start)
    solve = _same if precondition is None else precondition
    r = state.residual
    z = solve(r)
    rho = dot(r, z)
    d = -z
    goal, most = tol * tol, max_cg or len(gradient)
    ended: Ended = "solved" if rho <= goal else "steps"
    while rho > goal and state.products < most:
        if not dot(d, d) > 0:  # below what its square can hold
            ended = "solved"
            break
        hd = state.apply(d)
        if not bool(torch.isfinite(hd).all()):
            ended = "non-finite"
            break
        bend = dot(d, hd)
        flat = abs(bend) <= state.rounded(d, hd)
        if flat and math.isinf(radius):
            break
        if bend <= 0 or flat:
            side = d if dot(gradient, d) <= 0 else -d
            if math.isinf(radius):
                return state.solved("negative", side)
            state.move(d, hd, _to_radius(state.p, d, radius))
            return state.solved("boundary" if flat else "negative", None if flat else side)
        alpha = rho / bend
        if length(state.p + alpha * d) >= radius:
            state.move(d, hd, _to_radius(state.p, d, radius))
            return state.solved("boundary")
        r = state.move(d, hd, alpha)
        if watch is not None and watch(state.p, state.value):
            ended = "solved"
            break
        z = solve(r)
        rho, before = dot(r, z), rho
        d = -z + (rho / before) * d
        ended = "solved" if rho <= goal else "steps"
    return state.solved(ended)


def _same(r: Tensor) -> Tensor:
    return r


class _Model:
    """Where conjugate gradients stand, and what the quadratic model is there."""

    def __init__(self, product: Callable[[Tensor], Tensor], gradient: Tensor, start: Tensor | None) -> None:
        self.product, self.gradient, self.products = product, gradient, 0
        self.largest = 0.0
        self.p = torch.zeros_like(gradient)
        self.residual = gradient.clone()
        self.hp = torch.zeros_like(gradient)
        if start is not None and bool(start.any()):
            self.p, self.hp = start.clone(), self.apply(start)
            self.residual = gradient + self.hp

    def apply(self, d: Tensor) -> Tensor:
        self.products += 1
        return self.product(d)

    def rounded(self, d: Tensor, hd: Tensor) -> float:
        """What ``d.Hd`` of a direction without curvature may come to by rounding."""
        square = dot(d, d)
        self.largest = max(self.largest, length(hd) / math.sqrt(square))
        return 10 * torch.finfo(d.dtype).eps * self.largest * square

    def move(self, d: Tensor, hd: Tensor, t: float) -> Tensor:
        """Go `t` along `d`; the residual there."""
        self.p, self.hp, self.residual = self.p + t * d, self.hp + t * hd, self.residual + t * hd
        return self.residual

    @property
    def value(self) -> float:
        """The model at p."""
        return dot(self.gradient, self.p) + 0.5 * dot(self.p, self.hp)

    def solved(self, ended: Ended, direction: Tensor | None = None) -> Solved:
        return Solved(self.p, self.products, ended, -self.value, length(self.residual), direction)


def _to_radius(p: Tensor, d: Tensor, radius: float) -> float:
    """The t above 0 with ``|p + t d| = radius``."""
    a, b, c = dot(d, d), dot(p, d), dot(p, p) - radius * radius
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (root - b) / a if b <= 0 else -c / (root + b)  # of two forms the one that does not cancel
