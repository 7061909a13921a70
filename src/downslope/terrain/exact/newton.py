"""Damped Newton steps to the minimum of a smooth convex loss of an affine model.

``psi <- psi - t H^-1 g`` in coordinates in which the data is white (`triangle.basis`), so that badly scaled and
dependent columns cost no accuracy. H is solved by Cholesky where it fits, else by conjugate gradients, for which
those coordinates are the preconditioner (Böhning 1992: the curvature of a softmax is at most half the data's).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.exact.design import Design
from downslope.terrain.exact.triangle import Basis

MOST_STEPS = 200
DENSE = 3000
"""Unknowns up to which the Hessian is formed; beyond, only its products with vectors are."""


class Minimum(NamedTuple):
    """Where the steps ended."""

    psi: Tensor
    """(rank, outputs)."""
    value: float
    """Of the loss with its penalty."""
    steps: int
    gradient: Tensor
    """By psi."""
    curvature: float
    """Smallest eigenvalue of the Hessian by psi, from below; NaN where it was not formed."""
    separated: bool
    """Whether every certain target is on its side of these outputs: then no minimum is attained."""


class White:
    """The loss by psi: value, gradient, Hessian and its products, summed over blocks.

    Args:
        design: The data.
        basis: The coordinates.
        l2: Strength of the penalty.
    """

    def __init__(self, design: Design, basis: Basis, l2: float) -> None:
        self.design, self.T, self.l2 = design, basis.T, l2
        self.kron = design.layer is not None
        self.columns = design.outputs if self.kron else 1
        self.shape = (basis.rank, self.columns)
        kept = self.T * (~design.free)[:, None]
        self.penalty = l2 * (kept.T @ kept)
        self._blocks: list[tuple[Tensor, Tensor | None, Tensor]] | None = None
        if design.kept:
            self._blocks = list(self._white())

    def _white(self) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        for block in self.design.blocks():
            yield block.rows @ self.T, block.offset, block.target

    def blocks(self) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
        """White rows, offsets and targets."""
        yield from self._white() if self._blocks is None else self._blocks

    def outputs(self, rows: Tensor, offset: Tensor | None, psi: Tensor) -> Tensor:
        """Z of a block."""
        z = rows @ psi if self.kron else (rows @ psi)[..., 0]
        return z if offset is None else z + offset

    def back(self, rows: Tensor, slope: Tensor) -> Tensor:
        """A^T times `slope`, in the shape of psi."""
        return rows.T @ slope if self.kron else torch.einsum("nkq,nk->q", rows, slope)[:, None]

    def value(self, psi: Tensor) -> float:
        """Loss and penalty."""
        loss = self.design.loss
        total = sum(float(loss.value(self.outputs(x, o, psi), y)) for x, o, y in self.blocks())
        return total / self.design.total + 0.5 * float((psi * (self.penalty @ psi)).sum())

    def gradient(self, psi: Tensor) -> Tensor:
        """By psi."""
        loss = self.design.loss
        total = torch.zeros_like(psi)
        for x, o, y in self.blocks():
            total += self.back(x, loss.slope(self.outputs(x, o, psi), y))
        return total / self.design.total + self.penalty @ psi

    def product(self, psi: Tensor, v: Tensor) -> Tensor:
        """The Hessian times `v`; along what a softmax cannot see, `v` itself."""
        loss = self.design.loss
        total = torch.zeros_like(psi)
        for x, o, y in self.blocks():
            moved = self.outputs(x, None, v)
            total += self.back(x, loss.bends(self.outputs(x, o, psi), y, moved))
        unseen = v.mean(1, keepdim=True).expand_as(v) if loss.classes and self.kron else 0.0
        return total / self.design.total + self.penalty @ v + unseen

    def hessian(self, psi: Tensor) -> Tensor:
        """The matrix, psi flattened row by row."""
        loss, (q, k) = self.design.loss, self.shape
        total = torch.zeros(q, k, q, k, dtype=torch.float64)
        for x, o, y in self.blocks():
            z = self.outputs(x, o, psi)
            if not self.kron:
                total[:, 0, :, 0] += _general(x, loss.curvature(z, y), _shares(loss.classes, z, y))
                continue
            for a in range(k):
                for b in range(a, k) if loss.classes else (a,):
                    part = x.T @ (x * _pair(loss.classes, z, y, loss.curvature(z, y), a, b)[:, None])
                    total[:, a, :, b] += part
                    if a != b:
                        total[:, b, :, a] += part
        total /= self.design.total
        eye = torch.eye(k, dtype=torch.float64)
        total += torch.einsum("ij,ab->iajb", self.penalty, eye)
        if loss.classes and self.kron:
            total += torch.einsum("ij,ab->iajb", torch.eye(q, dtype=torch.float64), torch.ones_like(eye) / k)
        return total.reshape(q * k, q * k)

    def separated(self, psi: Tensor) -> bool:
        """Whether every target is certain and on its side, with room."""
        loss, closest = self.design.loss, math.inf
        for x, o, y in self.blocks():
            if o is not None and bool((o != 0).any()):
                return False
            z = self.outputs(x, None, psi)
            room = margins(loss.classes, z, y)
            if room is None:
                return False
            closest = min(closest, float(room.min()))
        return closest > 1e-6 * float(psi.abs().max())


def margins(classes: bool, z: Tensor, y: Tensor) -> Tensor | None:
    """How far every output is on the side of its target; None where a target is not certain."""
    if not classes:
        return torch.where(y == 1, z, -z) if bool(((y == 0) | (y == 1)).all()) else None
    counted = y[y.sum(1) > 0]
    if bool(((counted > 0).sum(1) != 1).any()):
        return None
    right = counted > 0
    scores = z[y.sum(1) > 0]
    own = scores[right]
    return own - scores.masked_fill(right, -math.inf).amax(1)


def _pair(classes: bool, z: Tensor, y: Tensor, own: Tensor, a: int, b: int) -> Tensor:
    if not classes:
        return own[:, a]
    p = z.softmax(1)
    both = y.sum(1) * p[:, a] * p[:, b]
    return own[:, a] - both if a == b else -both


def _shares(classes: bool, z: Tensor, y: Tensor) -> Tensor | None:
    return z.softmax(1) * y.sum(1, keepdim=True).sqrt() if classes else None


def _general(x: Tensor, own: Tensor, shares: Tensor | None) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    made = flat.T @ (flat * own.reshape(-1, 1))
    if shares is None:
        return made
    mixed = torch.einsum("nkq,nk->nq", x, shares)
    return made - mixed.T @ mixed


def minimise(white: White) -> Minimum:
    """Newton's steps from 0, halved until the loss falls enough; the last ones run into rounding."""
    psi = torch.zeros(white.shape, dtype=torch.float64)
    value, gradient = white.value(psi), white.gradient(psi)
    best, dense = math.inf, white.shape[0] * white.shape[1] <= DENSE
    stalled = steps = 0
    for steps in range(1, MOST_STEPS + 1):
        step = _dense(white, psi, gradient) if dense else _conjugate(white, psi, gradient)
        decrement = -float((gradient * step).sum())
        moved = _searched(white, psi, value, step, decrement)
        if moved is None:
            break
        psi, value = moved
        gradient = white.gradient(psi)
        norm = float(gradient.norm())
        stalled = 0 if norm < 0.5 * best else stalled + 1
        best = min(best, norm)
        if norm == 0 or (decrement < 1e-20 * max(abs(value), 1e-10) and stalled):
            break
        if stalled >= 3 and decrement < 1e-13 * max(abs(value), 1e-3):
            break
        if steps >= 12 and white.l2 == 0 and white.design.loss.name in _ENDLESS and white.separated(psi):
            return Minimum(psi, value, steps, gradient, math.nan, True)
    least = _least(white.hessian(psi)) if dense else math.nan
    return Minimum(psi, value, steps, gradient, least, False)


_ENDLESS = ("logistic loss", "cross-entropy")


def _searched(
    white: White, psi: Tensor, value: float, step: Tensor, decrement: float
) -> tuple[Tensor, float] | None:
    """The first of 1, 1/2, 1/4 ... times the step that lowers the loss by a share of what its slope says."""
    length = 1.0
    tiny = 1e-14 * max(abs(value), 1e-3)
    for _ in range(40):
        tried = psi + length * step
        found = white.value(tried)
        if found <= value - 1e-4 * length * decrement or (decrement < 1e-9 and found <= value + tiny):
            return tried, found
        length /= 2
    return None


def _dense(white: White, psi: Tensor, gradient: Tensor) -> Tensor:
    hessian = white.hessian(psi)
    size = len(hessian)
    largest = float(hessian.diagonal().max())
    for jitter in (0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6):
        shifted = hessian + jitter * largest * torch.eye(size, dtype=torch.float64)
        factor, failed = torch.linalg.cholesky_ex(shifted)
        if int(failed) == 0:
            break
    else:
        return -gradient
    return -torch.cholesky_solve(gradient.reshape(-1, 1), factor).reshape(gradient.shape)


def _least(hessian: Tensor) -> float:
    """Smallest eigenvalue, less what rounding may add to it."""
    values = torch.linalg.eigvalsh(hessian)
    return float(values[0]) - 1e-15 * len(values) * float(values[-1])


def _conjugate(white: White, psi: Tensor, gradient: Tensor) -> Tensor:
    """The solution of ``H step = -g`` to a tenth, and closer the nearer the end (Nash and Sofer 1990)."""
    norm = float(gradient.norm())
    return conjugate_gradients(
        lambda v: white.product(psi, v), -gradient, tol=min(0.1, max(norm, 1e-10)), most=500
    )


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, *, tol: float, most: int
) -> Tensor:
    """x with ``|product(x) - right| <= tol |right|``, from 0 (Hestenes and Stiefel 1952)."""
    x = torch.zeros_like(right)
    r, d = right.clone(), right.clone()
    rho = float((r * r).sum())
    goal = tol * tol * rho
    for _ in range(most):
        if rho <= goal:
            break
        hd = product(d)
        bend = float((d * hd).sum())
        if bend <= 0:
            break
        x = x + rho / bend * d
        r = r - rho / bend * hd
        rho, before = float((r * r).sum()), rho
        d = r + rho / before * d
    return x if float(x.norm()) > 0 else right
