"""Random ground: how rare minima are among critical points, the more dimensions there are.

A symmetric matrix with Gaussian entries (the Gaussian orthogonal ensemble) has all eigenvalues positive with
probability 1/2, (2 - sqrt 2)/4, ... for n = 1, 2, ..., and as ``exp(-n^2 ln(3)/4)`` for large n (Dean and
Majumdar 2006, equation 3). The Hessian at a critical point of a random function is no such matrix but one of
them shifted by the height: low points have the smaller index (Bray and Dean 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.functions import Function


@dataclass(frozen=True)
class Signs:
    """Of random symmetric matrices: how many have eigenvalues of one sign.

    Attributes:
        dimension: Rows.
        draws: Matrices.
        minima: Those with all eigenvalues positive.
        maxima: Those with all negative.
    """

    dimension: int
    draws: int
    minima: int
    maxima: int

    @property
    def saddles(self) -> float:
        """Share with eigenvalues of both signs."""
        return 1 - (self.minima + self.maxima) / self.draws

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of saddles (1927)."""
        from scipy.stats import binomtest

        count = self.draws - self.minima - self.maxima
        found: Any = binomtest(count, self.draws).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


def signs(dimension: int, draws: int = 2000, seed: int = 0) -> Signs:
    """Signs of the eigenvalues of random symmetric matrices, off-diagonal N(0, 1), diagonal N(0, 2).

    Args:
        dimension: Rows, at least 1.
        draws: Matrices, at least 1.
        seed: Of the draws.

    Raises:
        InputError: an argument outside its domain.
    """
    if dimension < 1 or draws < 1:
        raise InputError(f"dimension={dimension}, draws={draws}: both must be at least 1")
    draw = torch.Generator().manual_seed(seed)
    square = torch.randn(draws, dimension, dimension, generator=draw, dtype=torch.float64)
    linalg: Any = torch.linalg
    values: Tensor = linalg.eigvalsh((square + square.mT) / math.sqrt(2))
    return Signs(dimension, draws, int((values[:, 0] > 0).sum()), int((values[:, -1] < 0).sum()))


def random_function(dimension: int, seed: int = 0, waves: int = 256, side: float = 4.0) -> Function:
    """A smooth random function: ``sqrt(2/K) sum_k cos(w_k . x + c_k)``, w_k ~ N(0, I), c_k uniform.

    For many waves K it is Gaussian of mean 0 and covariance ``exp(-|x - x'|^2 / 2)`` (Rahimi and Recht 2007):
    the same everywhere and in all directions.

    Args:
        dimension: Coordinates, at least 1.
        seed: Of the waves.
        waves: K, at least 1.
        side: Of the domain, a cube around 0.

    Raises:
        InputError: an argument outside its domain.
    """
    if dimension < 1 or waves < 1 or not side > 0:
        raise InputError(
            f"dimension={dimension}, waves={waves}, side={side}: must be at least 1, side above 0"
        )
    draw = torch.Generator().manual_seed(seed)
    wave = torch.randn(dimension, waves, generator=draw, dtype=torch.float64)
    phase = 2 * torch.pi * torch.rand(waves, generator=draw, dtype=torch.float64)

    def evaluate(points: Tensor) -> Tensor:
        return math.sqrt(2 / waves) * torch.cos(points.to(wave) @ wave + phase).sum(-1)

    return Function(
        name=f"random function {seed}",
        formula="√(2/K) Σ cos(wₖ·x + cₖ)",
        dimension=dimension,
        evaluate=evaluate,
        domain=((-side / 2, side / 2),) * dimension,
        start=(0.0,) * dimension,
        whole=False,
        shows="ground without a plan: the more dimensions, the fewer of its critical points are minima",
        source="Rahimi and Recht 2007, algorithm 1",
    )
