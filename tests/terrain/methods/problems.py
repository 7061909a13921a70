"""Functions that the tests of the methods go down on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from downslope.terrain.ground import Ground
from downslope.terrain.methods import Method

F = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def beale(x: Tensor) -> Tensor:
    y = torch.stack([x[1], x[1] ** 2, x[1] ** 3])
    return ((torch.tensor([1.5, 2.25, 2.625], dtype=x.dtype) - x[0] + x[0] * y) ** 2).sum()


def saddle(x: Tensor) -> Tensor:
    return x[0] ** 2 - x[1] ** 2 + 0.1 * x[1] ** 4


def quadratic(values: Any, seed: int = 0) -> tuple[F, Tensor]:
    """``x.Ax / 2 - b.x`` of a matrix with these eigenvalues, and its minimum."""
    draw = torch.Generator().manual_seed(seed)
    n = len(values)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=draw, dtype=torch.float64))
    a = q @ torch.diag(torch.as_tensor(values, dtype=torch.float64)) @ q.T
    b = torch.randn(n, generator=draw, dtype=torch.float64)
    return lambda x: 0.5 * x @ a @ x - b @ x, torch.linalg.solve(a, b)


class Path:
    """What a method did on a function from a start: points, losses, and the method itself."""

    def __init__(
        self, f: F, start: Any, make: type[Method], steps: int, gtol: float = 0.0, **settings: Any
    ) -> None:
        self.p = nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())
        self.method = make([self.p], **settings)
        self.ground = Ground([(lambda: f(self.p), 1.0)], [self.p])
        self.points = [self.p.detach().clone()]
        self.losses: list[float] = []
        for _ in range(steps):
            self.losses.append(self.method.step(self.ground))
            self.points.append(self.p.detach().clone())
            assert self.method.last is not None
            if self.method.last.converged or self.slope <= gtol:
                break
        self.losses.append(float(f(self.p.detach())))

    @property
    def slope(self) -> float:
        return float(self.ground.slope()[1].abs().max())

    @property
    def x(self) -> np.ndarray[Any, Any]:
        return self.points[-1].numpy()


def numpy_of(f: F) -> Callable[[Any], tuple[float, Any]]:
    """Value and gradient as SciPy wants them."""

    def both(x: Any) -> tuple[float, Any]:
        at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        value = f(at)
        (slope,) = torch.autograd.grad(value, at)
        return value.item(), slope.numpy()

    return both
