"""A model taken as linear in its parameters: its Gauss-Newton matrix, and the ways to solve with it.

    G = J^T H J,   g = J^T s

J the Jacobian of the outputs, H the objective's Hessian by them, s its slope. Of a squared error H is
diagonal, so that ``R = H^1/2 J`` is at hand and the system is solved by an orthogonal factorisation of R,
whose condition is the root of G's.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.objectives.meaning import meaning
from downslope.objectives.penalised import Penalised
from downslope.terrain.ground import Ground, ModelGround
from downslope.terrain.hvp import length
from downslope.terrain.methods.conjugate_gradients import conjugate_gradients
from downslope.terrain.methods.dense import FLAT, check_size, dense, descent
from downslope.terrain.methods.line_search import dot
from downslope.terrain.operators.curvature import Curvature
from downslope.terrain.operators.gauss_newton import GaussNewton
from downslope.terrain.operators.operator import Operator
from downslope.terrain.operators.outputs import Outputs

SMALL = 300
"""Parameters up to which the matrix is formed unless told otherwise, at a product of two gradients each."""

RIDGE = 1e-3
"""Share of the mean of a singular matrix's diagonal by which it is damped."""

SQUARES = ("squared_error", "MSELoss", "mse_loss")


class Solution(NamedTuple):
    """A step of a damped system."""

    step: Tensor
    """``-(G + shift)^-1 g``, shape (size,)."""
    products: int
    said: str = ""
    """What was met on the way."""
    flat: bool = False
    """Whether there was no curvature along g, so that the step is as long as was given."""


class Linearised:
    """The Gauss-Newton matrix at the point where a ground stands.

    Args:
        ground: Of a model.
        gradient: There, flat.
        solver: "auto", "dense" or "cg".
        max_cg: Products of one solution by conjugate gradients at most; as many as parameters if None.

    Attributes:
        products: Spent to form it.
    """

    def __init__(
        self, ground: ModelGround, gradient: Tensor, *, solver: str = "auto", max_cg: int | None = None
    ) -> None:
        self.gradient, self.max_cg = gradient, max_cg
        self.operator: Operator = ground.gauss_newton()
        self.products = 0
        self.root: Tensor | None = None
        self.matrix: Tensor | None = None
        if solver == "cg" or (solver == "auto" and ground.size > SMALL):
            return
        check_size("a dense solver", ground.size, "solver='cg'")
        self.products = ground.size
        found = _root(ground, self.operator)
        if found is None:
            self.matrix = dense(self.operator)
        else:
            self.root, self.residual = found

    def diagonal(self) -> Tensor | None:
        """Of G, shape (size,); None where G is not formed."""
        if self.root is not None:
            return self.root.square().sum(0)
        return None if self.matrix is None else self.matrix.diagonal().clone()

    def scale(self) -> Tensor:
        """By which a damping is measured, shape (size,): G's diagonal, its mean where an entry is 0.

        Where G is not formed it is its curvature along the gradient.
        """
        diagonal = self.diagonal()
        if diagonal is None:
            along = self.bent(self.gradient) / dot(self.gradient, self.gradient)
            return torch.full_like(self.gradient, along)
        return torch.where(diagonal > 0, diagonal, diagonal.mean())

    def bent(self, step: Tensor) -> float:
        """``p^T G p``; one product where G is not formed."""
        if self.root is not None:
            return float((self.root @ step).square().sum())
        return dot(step, self.operator.product(step) if self.matrix is None else self.matrix @ step)

    def solve(self, shift: Tensor, start: Tensor | None = None, reach: float = 1.0) -> Solution:
        """``-(G + diag(shift))^-1 g``.

        Args:
            shift: At least 0, shape (size,).
            start: Where conjugate gradients begin.
            reach: Length of a step where there is no curvature, in (0, inf).
        """
        if self.root is not None:
            return Solution(_least_squares(self.root, self.residual, shift), 0)
        if self.matrix is not None:
            found = descent(self.matrix + torch.diag(shift), self.gradient)
            if found.least is None:
                return Solution(found.step, 0)
            least = RIDGE * float(self.matrix.diagonal().abs().mean())
            found = descent(self.matrix + torch.diag(shift), self.gradient, least, reach)
            return Solution(found.step, 0, found.said("the matrix"), found.flat)
        norm = length(self.gradient)
        solved = conjugate_gradients(
            lambda v: self.operator.product(v) + shift * v,
            self.gradient,
            tol=min(0.1, math.sqrt(norm)) * norm,
            max_cg=self.max_cg,
            start=start,
        )
        if not bool(solved.step.any()) and solved.ended == "steps":
            flat = -self.gradient * (reach / norm)
            return Solution(flat, solved.products, FLAT.format("the matrix"), flat=True)
        step = solved.step if bool(solved.step.any()) else -self.gradient
        fine = solved.ended in ("solved", "steps")
        said = "" if fine else f"conjugate gradients ended early ({solved.ended})"
        return Solution(step, solved.products, said)


def model_of(ground: Ground, method: str) -> ModelGround:
    """`ground`, where it is a model's.

    Raises:
        ModelError: a closure, which does not show the outputs.
    """
    if isinstance(ground, ModelGround):
        return ground
    raise ModelError(
        f"{method}.step(closure): a closure hides the outputs that this curvature is made of; "
        "give step(ds.methods.ground(model, objective, batch)), train with fit, or take newton_cg or lbfgs"
    )


def _least_squares(root: Tensor, residual: Tensor, shift: Tensor) -> Tensor:
    """The p of least ``|R p + r|^2 + p^T diag(shift) p``; of several the shortest."""
    linalg: Any = torch.linalg
    wide, right = root.double(), -residual.double()
    if bool(shift.any()):
        wide = torch.cat([wide, torch.diag(shift.double().sqrt())])
        right = torch.cat([right, right.new_zeros(len(shift))])
    size = wide.square().sum(0).sqrt()  # of columns: parameters differ in unit
    size = torch.where(size > 0, size, 1.0)
    found = linalg.lstsq((wide / size).cpu(), right[:, None].cpu(), driver="gelsd").solution[:, 0]
    return (found.to(size) / size).to(root)


def _root(ground: ModelGround, operator: Operator) -> tuple[Tensor, Tensor] | None:
    """R and r with ``R^T R = G``, ``R^T r = g``, of a squared error; None of anything else."""
    function: Any = ground.objective.function
    plain = not isinstance(function, Penalised) or not function.terms
    inner = function.objective if isinstance(function, Penalised) else function
    if not plain or meaning(inner).name not in SQUARES or not isinstance(operator, Curvature):
        return None
    rows: list[Tensor] = []
    right: list[Tensor] = []
    for term, weight in operator.terms():
        if not isinstance(term, GaussNewton):
            continue
        outputs = term.outputs
        bend = torch.cat(
            [each.flatten() for each in outputs.curved([torch.ones_like(z) for z in outputs.outputs])]
        )
        if not bool((bend > 0).all()):
            return None
        spread = (weight * bend).sqrt()
        rows.append(spread[:, None] * _jacobian(outputs))
        right.append(weight * torch.cat([each.flatten() for each in outputs.slopes]) / spread)
    if ground.decay is not None:
        rows.append(torch.diag(ground.decay.sqrt()))
        right.append(ground.decay.sqrt() * ground.where())
    return torch.cat(rows), torch.cat(right)


def _jacobian(outputs: Outputs) -> Tensor:
    """J, shape (outputs, size), by columns or by rows, whichever are fewer."""
    like = outputs.params[0]
    count = sum(each.numel() for each in outputs.outputs)
    if outputs.size <= count:
        eye = torch.eye(outputs.size, dtype=like.dtype, device=like.device)
        return torch.stack([torch.cat([z.flatten() for z in outputs.jacobian(e)]) for e in eye], dim=1)
    sizes = [each.numel() for each in outputs.outputs]
    eye = torch.eye(count, dtype=like.dtype, device=like.device)
    parts = [
        [u.reshape(z.shape) for u, z in zip(torch.split(e, sizes), outputs.outputs, strict=True)] for e in eye
    ]
    return torch.stack([outputs.transposed(each) for each in parts])
