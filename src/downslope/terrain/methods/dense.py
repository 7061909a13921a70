"""The matrix of an operator, formed and factorised: for methods that solve a system exactly."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.terrain.hvp import length
from downslope.terrain.operators.operator import Operator
from downslope.terrain.operators.views import dense as by_columns

LARGEST = 5000
"""Parameters up to which a matrix is formed: 200 MB in float64, and as many products as there are rows."""


FLAT = "{} has no curvature along the gradient: the gradient was followed"


def dense(operator: Operator) -> Tensor:
    """The matrix of a symmetric operator, symmetrised; shape (size, size), in the dtype of its products."""
    matrix = by_columns(operator)
    return 0.5 * (matrix + matrix.T)


def check_size(method: str, size: int, instead: str) -> None:
    """Refuse a matrix of too many parameters.

    Raises:
        ModelError: with what it would take, and what to take instead.
    """
    if size > LARGEST:
        gigabytes = 8 * size * size / 1e9
        raise ModelError(
            f"{method} forms a matrix of the parameters: {size} of them are {gigabytes:.3g} GB and {size} "
            f"products a step, and it goes up to {LARGEST}; use {instead}, which needs products only"
        )


class Shifted(NamedTuple):
    """A system made positive definite."""

    step: Tensor
    """``-(A + shift I)^-1 g``."""
    shift: float
    least: float | None
    """Smallest eigenvalue of A; None where A was positive definite as it was."""
    indefinite: bool = False
    """Whether it is negative beyond rounding."""
    flat: bool = False
    """Whether most of g lies where A has no curvature, so that the step is as long as was given."""

    def said(self, matrix: str) -> str:
        """What A was, and what was done; nothing where it was positive definite."""
        if self.least is None:
            return ""
        if self.flat:
            return FLAT.format(matrix)
        kind = "indefinite" if self.indefinite else "singular"
        return f"{matrix} is {kind} (smallest eigenvalue {self.least:.2g}): damped by {self.shift:.2g}"


def descent(matrix: Tensor, gradient: Tensor, damping: float = 0.0, reach: float = 1.0) -> Shifted:
    """The Newton direction of a matrix that is shifted until it is positive definite.

    Cholesky tells whether it is; if not, the shift is ``2 |lambda_min|``, which leaves the most negative
    direction with the size of its own curvature, or where the matrix is singular what rounding takes. Where
    that leaves most of the gradient to directions without curvature, it is ``|g| / reach``.

    Args:
        matrix: A, symmetric.
        gradient: g.
        damping: Least shift, in [0, inf).
        reach: Length of a step where there is no curvature, in (0, inf).

    Source: Nocedal and Wright 2006, section 3.4, algorithm 3.3 with the shift from the spectrum.
    """
    wide, g = matrix.double(), gradient.double()
    floor = 10 * len(g) * torch.finfo(matrix.dtype).eps * max(float(wide.diagonal().abs().max()), 1e-300)
    step = _solved(wide, g, damping, floor)
    if step is not None:
        return Shifted(step.to(gradient), damping, None)
    least = float(cast("Tensor", torch.linalg.eigvalsh(wide))[0])
    indefinite = least <= -floor
    shift = max(damping, -2 * least if indefinite else floor - least)
    while (step := _solved(wide, g, shift, 0.0)) is None:
        shift *= 4
    norm = length(g)
    flat = not indefinite and not shift * length(step) <= 0.5 * norm and shift < norm / reach
    if flat:
        shift = norm / reach
        while (step := _solved(wide, g, shift, 0.0)) is None:
            shift *= 4
    return Shifted(step.to(gradient), shift, least, indefinite, flat)


def _solved(matrix: Tensor, g: Tensor, shift: float, floor: float) -> Tensor | None:
    """``-(A + shift I)^-1 g`` by Cholesky; None where a pivot is below `floor`."""
    linalg: Any = torch.linalg
    factor, failed = linalg.cholesky_ex(matrix + shift * torch.eye(len(g), dtype=g.dtype, device=g.device))
    if int(failed) or not bool(torch.isfinite(factor).all()) or float(factor.diagonal().min()) ** 2 < floor:
        return None
    return -torch.cholesky_solve(g[:, None], factor)[:, 0]


def undamped(matrix: Tensor, gradient: Tensor, damping: float = 0.0) -> Shifted:
    """``-(A + damping I)^-1 g`` whatever the signs of the eigenvalues; of a singular A the shortest step."""
    linalg: Any = torch.linalg
    wide = matrix.double() + damping * torch.eye(len(matrix), dtype=torch.float64, device=matrix.device)
    step = -(linalg.pinv(wide, hermitian=True) @ gradient.double())
    return Shifted(step.to(gradient), damping, None)
