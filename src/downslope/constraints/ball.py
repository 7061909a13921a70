"""Balls: a weight of bounded length, whole (l2_ball) or unit by unit (max_norm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from downslope.constraints.constraint import By, Constraint, number, rows


@dataclass(frozen=True, kw_only=True)
class L2Ball(Constraint):
    """``{w : |w| <= radius}``, convex; projection ``w min(1, radius / |w|)``.

    Args:
        radius: In (0, inf).
    """

    name: ClassVar[str] = "l2_ball"
    convex: ClassVar[bool | None] = True
    radius: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "radius", number(self.name, "radius", self.radius, positive=True))

    def project(self, w: Tensor) -> Tensor:
        """Shortened to the radius where it is longer."""
        return _shortened(w.reshape(1, -1), self.radius).reshape(w.shape)

    def start(self, w: Tensor) -> Tensor:
        """Within nine tenths of the radius: on the sphere no step along the radius would be left."""
        return 0.9 * self.project(w / 0.9)

    def map(self, w: Tensor) -> nn.Module:
        """``radius v / sqrt(1 + |v|^2)``."""
        del w
        return _Inside(self.radius, whole=True)


@dataclass(frozen=True, kw_only=True)
class MaxNorm(L2Ball):
    """``{W : |row| <= radius}``, the weights that go into a unit, convex (Srebro and Shraibman 2005).

    Args:
        radius: In (0, inf); 3 to 4 is usual beside dropout (Srivastava et al. 2014, section 5.1).
    """

    name: ClassVar[str] = "max_norm"
    radius: float = 3.0

    def project(self, w: Tensor) -> Tensor:
        """Rows shortened to the radius where they are longer."""
        return _shortened(rows(w), self.radius).reshape(w.shape)

    def map(self, w: Tensor) -> nn.Module:
        """``radius v / sqrt(1 + |v|^2)``, row by row."""
        del w
        return _Inside(self.radius, whole=False)


def _shortened(w: Tensor, radius: float) -> Tensor:
    length = w.square().sum(1, keepdim=True).sqrt()
    return w * (radius / length.clamp_min(torch.finfo(w.dtype).tiny)).clamp(max=1.0)


class _Inside(nn.Module):
    def __init__(self, radius: float, *, whole: bool) -> None:
        super().__init__()
        self.radius, self.whole = radius, whole

    def forward(self, v: Tensor) -> Tensor:
        """Inside the ball."""
        flat = v.reshape(1, -1) if self.whole else rows(v)
        return (self.radius * flat / (1 + flat.square().sum(1, keepdim=True)).sqrt()).reshape(v.shape)

    def right_inverse(self, w: Tensor) -> Tensor:
        """The free numbers of a weight; one on the sphere is moved a little inside."""
        flat = _shortened(w.reshape(1, -1) if self.whole else rows(w), self.radius * (1 - 1e-4))
        left = (self.radius**2 - flat.square().sum(1, keepdim=True)).sqrt()
        return (flat / left).reshape(w.shape)


def l2_ball(radius: float = 1.0, *, params: str | tuple[str, ...] = (), by: By = "projection") -> L2Ball:
    """``|w| <= radius`` for every held parameter as a whole.

    Args:
        radius: In (0, inf).
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return L2Ball(radius=radius, params=params, by=by)


def max_norm(radius: float = 3.0, *, params: str | tuple[str, ...] = (), by: By = "projection") -> MaxNorm:
    """``|row| <= radius`` for the weights that go into every unit.

    Args:
        radius: In (0, inf).
        params: Which parameters; all weights if left out.
        by: "projection" or "parametrisation".
    """
    return MaxNorm(radius=radius, params=params, by=by)
