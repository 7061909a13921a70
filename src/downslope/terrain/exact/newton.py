"""Damped Newton steps to the minimum of a smooth convex loss of an affine model.

``psi <- psi - t H^-1 g`` in coordinates in which the data is white (`triangle.basis`), so that badly scaled
and dependent columns cost no accuracy; there the curvature is 1 at most (of a softmax: Böhning 1992, Annals
of the Institute of Statistical Mathematics 44). H is solved by Cholesky where it fits, else by conjugate
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.exact.design import Design
from downslope.terrain.exact.linalg import cholesky, eigenvalues, length
from downslope.terrain.exact.triangle import Basis, basis, triangle

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


CURVATURE = {"squared error": 2.0, "Huber's error": 1.0, "logistic loss": 0.25, "cross-entropy": 0.5}
"""Largest second derivative of each loss."""


def basis_of(design: Design, l2: float, r: Tensor | None = None) -> Basis:
    """The coordinates in which the largest curvature that the loss can have is 1.

    Args:
        design: The data.
        l2: Strength of the penalty.
        r: Triangle of the data, if it is at hand.
    """
    if r is None:
        r = triangle(block.rows.reshape(-1, block.rows.shape[-1]) for block in design.blocks())
    loss = design.loss
    return basis(r, CURVATURE[loss.name] * loss.scale / design.total, l2, ~design.free)


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
        return self.design.outputs_of((rows, offset), psi)

    def back(self, rows: Tensor, slope: Tensor) -> Tensor:
        """A^T times `slope`, in the shape of psi."""
        return self.design.back(rows, slope)

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

    def diagonal_blocks(self, psi: Tensor) -> list[Tensor]:
        """The Hessian of each output by itself, (rank, rank) each."""
        if not self.kron:
            return [self.hessian(psi)]
        loss, (q, k) = self.design.loss, self.shape
        unseen = torch.eye(q, dtype=torch.float64) / k if loss.classes else 0.0
        total = [torch.zeros(q, q, dtype=torch.float64) for _ in range(k)]
        for x, o, y in self.blocks():
            z = self.outputs(x, o, psi)
            own = loss.curvature(z, y)
            for a in range(k):
                total[a] += x.T @ (x * _pair(loss.classes, z, y, own, a, a)[:, None])
        return [each / self.design.total + self.penalty + unseen for each in total]

    def hessian(self, psi: Tensor, *, seen: bool = False) -> Tensor:
        """The matrix, psi flattened by rows; with `seen` nothing is added along what a softmax cannot see."""
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
        if loss.classes and self.kron and not seen:
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
    """The minimum from 0; of Huber's error by way of wider ones, for few residuals are on its curved part."""
    design = white.design
    if design.loss.name != "Huber's error":
        return _minimised(white, torch.zeros(white.shape, dtype=torch.float64))
    asked, psi = design.loss, torch.zeros(white.shape, dtype=torch.float64)
    largest = max(float((white.outputs(x, o, psi) - y).abs().max()) for x, o, y in white.blocks())
    steps, delta = 0, largest
    try:
        while delta > asked.delta:
            design.loss = replace(asked, delta=delta)
            near = _minimised(white, psi)
            psi, steps, delta = near.psi, steps + near.steps, delta / NARROWER
    finally:
        design.loss = asked
    found = _minimised(white, psi)
    return found._replace(steps=steps + found.steps)


FIRST_DAMPING = 1e-2
"""Added to the curvature of Huber's error, of which 1 is the most, and which may be 0 (Levenberg 1944); less
after every whole step, more after one that had to be cut."""

NARROWER = 4.0
"""By how much the curved part of Huber's error gets narrower from one round to the next."""


def _minimised(white: White, psi: Tensor) -> Minimum:
    """Newton's steps, halved until the loss falls enough; the last ones run into rounding."""
    value, gradient = white.value(psi), white.gradient(psi)
    best, dense = math.inf, white.shape[0] * white.shape[1] <= DENSE
    damping = FIRST_DAMPING if white.design.loss.name == "Huber's error" else 0.0
    stalled, steps, blocks = 0, 0, Blocks(white.design.loss.classes and white.kron)
    for steps in range(1, MOST_STEPS + 1):
        step = _dense(white, psi, gradient, damping) if dense else _conjugate(white, psi, gradient, blocks)
        decrement = -float((gradient * step).sum())
        moved = _searched(white, psi, value, step, decrement)
        if moved is None:
            break
        damping *= 0.1 if torch.equal(moved[0], psi + step) else 4.0
        psi, value = moved
        gradient = white.gradient(psi)
        norm = length(gradient)
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


def _dense(white: White, psi: Tensor, gradient: Tensor, damping: float) -> Tensor:
    hessian = white.hessian(psi)
    factor = cholesky(hessian + damping * torch.eye(len(hessian), dtype=hessian.dtype))
    if factor is None:
        return -gradient
    return -torch.cholesky_solve(gradient.reshape(-1, 1), factor).reshape(gradient.shape)


def _least(hessian: Tensor) -> float:
    """Smallest eigenvalue, less what rounding may add to it."""
    values = eigenvalues(hessian)
    return float(values[0]) - 1e-15 * len(values) * float(values[-1])


class Blocks:
    """A preconditioner: the Hessian of each output by itself, factorised anew once it has become a bad one.

    Args:
        centred: Keep to steps that sum to zero over the outputs, as those of a softmax do.
    """

    def __init__(self, centred: bool) -> None:
        self.centred = centred
        self.factors = torch.zeros(0)
        self.last = 0

    def __call__(self, r: Tensor) -> Tensor:
        """Solve for each output."""
        made = torch.cholesky_solve(r.T[:, :, None], self.factors)[:, :, 0].T
        return made - made.mean(1, keepdim=True) if self.centred else made

    def renew(self, white: White, psi: Tensor) -> None:
        """Factorise at `psi` where that is due."""
        if len(self.factors) and self.last <= STALE:
            return
        self.factors = torch.stack([_factor(each) for each in white.diagonal_blocks(psi)])


STALE = 60
"""Products after which a preconditioner is renewed: so many cost about as much as making one."""


def _factor(block: Tensor) -> Tensor:
    factor = cholesky(block)
    return torch.eye(len(block), dtype=block.dtype) if factor is None else factor


def _conjugate(white: White, psi: Tensor, gradient: Tensor, blocks: Blocks) -> Tensor:
    """The solution of ``H step = -g`` to a tenth, and closer the nearer the end (Nash and Sofer 1990)."""
    blocks.renew(white, psi)
    tol = min(0.1, max(length(gradient), 1e-8))
    step, blocks.last = conjugate_gradients(
        lambda v: white.product(psi, v), -gradient, blocks, tol=tol, most=2000
    )
    return step


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    precondition: Callable[[Tensor], Tensor],
    *,
    tol: float,
    most: int,
) -> tuple[Tensor, int]:
    """X with ``product(x) = right``, and the products it took (Hestenes and Stiefel 1952).

    From 0, until the residual, in the norm of the preconditioner, is `tol` of what it was.
    """
    x, r = torch.zeros_like(right), right.clone()
    z = precondition(r)
    d, rho = z, float((r * z).sum())
    goal, count = tol * tol * rho, 0
    while rho > goal and count < most:
        hd = product(d)
        bend, count = float((d * hd).sum()), count + 1
        if bend <= 0:
            break
        x = x + rho / bend * d
        r = r - rho / bend * hd
        z = precondition(r)
        rho, before = float((r * z).sum()), rho
        d = z + rho / before * d
    return (x if count else z), count
