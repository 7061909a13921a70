"""Functions of one variable: a local and a global minimum, an inflection, a plateau, no minimum, many."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.terrain.functions.function import CriticalPoint, Function

_HILL, _GLOBAL = 0.2738526868008509, 1.0904082219467213
"""The first two roots of cot(pi x) = pi x."""
_LOW, _LOWEST = (-x * abs(math.cos(math.pi * x)) for x in (_HILL, _GLOBAL))


def _x_cos_pi_x(x: Tensor) -> Tensor:
    return x[..., 0] * torch.cos(torch.pi * x[..., 0])


def _cube(x: Tensor) -> Tensor:
    return x[..., 0] ** 3


def _tanh(x: Tensor) -> Tensor:
    return torch.tanh(x[..., 0])


def _exp(x: Tensor) -> Tensor:
    return torch.exp(x[..., 0])


def _away_from_one(x: Tensor) -> Tensor:
    return (x[..., 0] - 1).abs()


def _flat_bottom(x: Tensor) -> Tensor:
    return torch.relu(x[..., 0].abs() - 1)


def x_cos_pi_x() -> Function:
    """``x cos(pi x)`` on [-1, 2]: a local minimum beside a global one.

    Source: Zhang et al., Dive into Deep Learning, section 12.1. Beyond the domain it swings ever wider.
    """
    return Function(
        name="x_cos_pi_x",
        formula="x cos(πx)",
        dimension=1,
        evaluate=_x_cos_pi_x,
        domain=((-1.0, 2.0),),
        start=(-0.9,),
        critical=(
            CriticalPoint(at=(_GLOBAL,), value=_LOWEST, kind="minimum", is_global=True),
            CriticalPoint(at=(-_HILL,), value=_LOW, kind="minimum"),
            CriticalPoint(at=(_HILL,), value=-_LOW, kind="maximum"),
        ),
        attained=False,
        shows="a start on the left ends in the local minimum, unless something carries it over the hill",
        source="Zhang et al., Dive into Deep Learning, section 12.1",
    )


def cubic() -> Function:
    """``x^3``: at 0 gradient and curvature are zero, and there is no minimum. Source: as `x_cos_pi_x`."""
    return Function(
        name="cubic",
        formula="x³",
        dimension=1,
        evaluate=_cube,
        domain=((-2.0, 2.0),),
        start=(1.5,),
        critical=(CriticalPoint(at=(0.0,), value=0.0, kind="saddle", degenerate=True),),
        attained=False,
        shows="gradient descent slows down at 0 as at a minimum, though below it goes on for ever",
        source="Zhang et al., Dive into Deep Learning, section 12.1",
    )


def tanh() -> Function:
    """``tanh(x)``: from 4 on the gradient is .0013 and less. Source: as `x_cos_pi_x`."""
    return Function(
        name="tanh",
        formula="tanh(x)",
        dimension=1,
        evaluate=_tanh,
        domain=((-2.0, 5.0),),
        start=(4.0,),
        infimum=-1.0,
        attained=False,
        shows="a plateau: where the unit is saturated the gradient is all but zero for long",
        source="Zhang et al., Dive into Deep Learning, section 12.1",
    )


def exponential() -> Function:
    """``exp(x)``: strictly convex, above zero is_global, and without a minimum."""
    return Function(
        name="exponential",
        formula="exp(x)",
        dimension=1,
        evaluate=_exp,
        domain=((-4.0, 2.0),),
        start=(1.0,),
        infimum=0.0,
        attained=False,
        convex=True,
        shows="convex need not mean that there is a minimum: it goes down for ever, and never below 0",
    )


def absolute() -> Function:
    """``max(|x - 1|, 0)``, which is ``|x - 1|``: convex, with its minimum on a kink."""
    return Function(
        name="absolute",
        formula="max(|x − 1|, 0)",
        dimension=1,
        evaluate=_away_from_one,
        domain=((-2.0, 4.0),),
        start=(-1.0,),
        critical=(CriticalPoint(at=(1.0,), value=0.0, kind="minimum", is_global=True, degenerate=True),),
        infimum=0.0,
        convex=True,
        kinks=True,
        shows="a constant step never settles: the slope is 1 in size up to the minimum itself",
    )


def flat_bottom() -> Function:
    """``max(|x| - 1, 0)``: convex and not strictly; every point of [-1, 1] is a minimum.

    Of its critical points the middle of the bottom is named.
    """
    return Function(
        name="flat_bottom",
        formula="max(|x| − 1, 0)",
        dimension=1,
        evaluate=_flat_bottom,
        domain=((-3.0, 3.0),),
        start=(2.5,),
        critical=(CriticalPoint(at=(0.0,), value=0.0, kind="minimum", is_global=True, degenerate=True),),
        whole=False,
        infimum=0.0,
        convex=True,
        kinks=True,
        shows="a convex function may have many minima; all of them have the same value",
    )
