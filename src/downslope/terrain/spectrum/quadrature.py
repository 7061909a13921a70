"""Gauss quadrature of the spectrum as one vector sees it, from a Krylov subspace.

A unit vector v weighs the eigenvalues of A by ``(v' u_i)^2``. The eigenvalues of the projected matrix with
the squared first entries of its eigenvectors are the Gauss rule of that measure: exact for polynomials of
degree below ``2 m`` after m products (Golub and Meurant 1994, Matrices, moments and quadrature).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from downslope.terrain.krylov import Krylov

Floats = NDArray[np.float64]


class Rule(NamedTuple):
    """Nodes and weights, and the Jacobi matrix that they come from."""

    nodes: Floats
    """Ascending, shape (m,)."""
    weights: Floats
    """Positive, of sum 1, shape (m,)."""
    last: Floats
    """Last entries of the unit eigenvectors, shape (m,)."""
    residuals: Floats
    """An eigenvalue lies within it of each node, shape (m,)."""
    diagonal: Floats
    """Of the Jacobi matrix, shape (m,)."""
    beside: Floats
    """Beside the diagonal, shape (m,); the last entry leads out of the subspace, 0 where that is
    invariant."""

    @property
    def closed(self) -> bool:
        """Whether the measure is known exactly."""
        return self.beside[-1] == 0.0

    def integral(self, f: Callable[[Floats], Floats]) -> float:
        """Of a function over the measure."""
        return float(self.weights @ f(self.nodes))

    def shorter(self) -> Rule:
        """The rule of three quarters of the products, for an estimate of what the last quarter added."""
        m = max(1, 3 * len(self.nodes) // 4)
        return rule_of(self.diagonal[:m], self.beside[:m])

    def below(self, x: float) -> tuple[float, float]:
        """The smallest and the largest mass below x that any measure with these moments can have.

        The rule with a node forced to x takes both: without and with that node's weight (inequalities of
        Chebyshev, Markov and Stieltjes; Akhiezer 1965, The classical moment problem, section 2.5; the rule
        after Golub 1973, Some modified matrix eigenvalue problems, section 7).
        """
        if self.closed:
            mass = float(self.weights[self.nodes < x].sum())
            return mass, mass
        forced = self.forced(x)
        at = int(np.abs(forced.nodes - x).argmin())
        low = float(forced.weights[:at].sum())
        return low, low + float(forced.weights[at])

    def forced(self, x: float) -> Rule:
        """The rule of the same measure with a node more, which is x: exact for degrees up to ``2 m``."""
        width = max(float(np.ptp(self.nodes)), abs(x), 1e-300)
        apart = self.nodes - x
        apart = np.where(np.abs(apart) < 1e-14 * width, 1e-14 * width, apart)
        out = float(self.beside[-1] ** 2 * (self.last**2 / apart).sum())
        return rule_of(np.append(self.diagonal, x + out), np.append(self.beside, 0.0))


def rule_of(diagonal: Floats, beside: Floats) -> Rule:
    """The rule of a Jacobi matrix; the last of `beside` leads out of it."""
    from scipy.linalg import eigh_tridiagonal

    found: Any = (diagonal.copy(), np.ones((1, 1)))
    if len(diagonal) > 1:
        found = cast(Any, eigh_tridiagonal)(diagonal, beside[:-1])
    values, vectors = (np.asarray(each, dtype=np.float64) for each in found)
    residuals = beside[-1] * np.abs(vectors[-1])
    return Rule(values, vectors[0] ** 2, vectors[-1], residuals, diagonal, beside)


def rule_from(space: Krylov) -> Rule:
    """The rule of the vector from which `space` was grown, without restarts."""
    matrix = space.matrix[: space.count, : space.count].numpy()
    out = 0.0 if space.broken or space.count == space.basis.shape[1] - len(space.locked) else space.beyond
    return rule_of(np.diag(matrix).copy(), np.append(np.diag(matrix, 1), out))


def smooth_error(kernel: Callable[[Floats], Floats], low: float, high: float, exact: int) -> Floats:
    """Largest error of positive rules of mass 1 that are exact below degree `exact`, for smooth functions.

    ``|I f - Q f| <= 2 min_p |f - p|`` over polynomials p of degree below `exact`, bounded by the tail of the
    Chebyshev series (Trefethen, Approximation Theory and Approximation Practice, theorem 19.3).

    Args:
        kernel: From points, shape (k,), to the values of several functions, shape (j, k).
        low: Lower end of the interval that holds the measure.
        high: Upper end.
        exact: Degree below which a rule is exact, ``2 m``.

    Returns:
        A bound for each function, shape (j,).
    """
    from scipy.fft import dct

    count = 4 * exact + 64
    at = np.cos(math.pi * (np.arange(count) + 0.5) / count)
    values = kernel((low + high) / 2 + (high - low) / 2 * at)
    series: Floats = np.abs(np.asarray(cast(Any, dct)(values, type=2, axis=-1), dtype=np.float64)) / count
    return 2 * series[:, exact:].sum(axis=-1)
