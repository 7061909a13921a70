"""The gradient as exactly as it can be told, and how far it may still be off.

A certificate that trusts a float64 gradient to its last digit proves too much: near the minimum nothing is
left of it but rounding. So the sums are formed with twice the digits (`twofold`), where that is affordable,
and what stays unsure is bounded, entry by entry:

    |dz| <= v_p |A| |theta| + u |z|
    |dl'| <= c |dz| + u (|l'| + |y|)
    |dg| <= |A|^T (|dl'| + v_n |l'|) / M

with c the largest second derivative of the loss, u a small multiple of the unit roundoff, and v_m the error
of a sum of m products: ``u sqrt(m)`` in float64, but for a probability below 1e-7 (Higham and Mary 2019, "A
new approach to probabilistic rounding error analysis", theorem 2.4), and ``u^2 m`` with twice the digits. The
residuals of least squares are exact then, so that their terms in u vanish.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.terrain.exact import twofold
from downslope.terrain.exact.design import Block, Design
from downslope.terrain.exact.losses import ConvexLoss
from downslope.terrain.exact.newton import CURVATURE
from downslope.terrain.exact.triangle import EPS
from downslope.terrain.exact.twofold import Twofold

SURE = 6.0
"""u in unit roundoffs: ``2 exp(-SURE^2 / 2)`` is 3e-8, the probability that a sum is off by more."""

MOST = 5e7
"""Products of the data with the weights up to which twice the digits are taken: about five seconds."""


class Told(NamedTuple):
    """A gradient by theta, (columns, outputs), and how far each of its entries may be off."""

    gradient: Tensor
    slack: Tensor


def told(design: Design, theta: Tensor, l2: float, measured: Tensor) -> Told:
    """The gradient of the objective at `theta`.

    Args:
        design: The data.
        theta: (columns, outputs), or (columns, 1).
        l2: Strength of the penalty.
        measured: The gradient in float64; it stands where the data are too large for more digits.
    """
    one = design.layer is not None
    p, n = design.columns, design.examples * (1 if one else design.outputs)
    unit, twice = SURE * EPS / 2, n * theta.numel() <= MOST
    bend = _bend(design.loss)
    of_outputs, of_sums = (unit**2 * p, unit**2 * n) if twice else (unit * math.sqrt(p), unit * math.sqrt(n))
    high = low = slack = torch.zeros_like(theta)
    for block in design.blocks():
        slope, off = _slope(design, block, theta, unit) if twice else _plain(design, block, theta, unit)
        large = Block(block.rows.abs(), None if block.offset is None else block.offset.abs(), block.target)
        off = off + bend * of_outputs * design.outputs_of(large, theta.abs())
        slack = slack + design.back(large.rows, off + of_sums * slope.high.abs())
        if twice:
            column = slope if one else Twofold(*(each.reshape(-1, 1) for each in slope))
            part = twofold.back(block.rows if one else block.rows.flatten(0, 1), column)
            high, rest = twofold.total(high, part.high)
            low = low + rest + part.low
    pull = l2 * torch.where(design.free[:, None], 0.0, theta)
    gradient = (high + low) / design.total + pull if twice else measured
    return Told(gradient, slack / design.total + unit * (pull.abs() + gradient.abs()))


def _bend(loss: ConvexLoss) -> float:
    """The largest second derivative of a loss with its weights."""
    return CURVATURE[loss.name] * loss.scale * max(1.0, loss.yes, *(loss.weight or ()))


def _plain(design: Design, block: Block, theta: Tensor, unit: float) -> tuple[Twofold, Tensor]:
    """Slopes in float64, and how far they are off for given outputs."""
    slope = design.loss.slope(design.outputs_of(block, theta), block.target)
    return Twofold(slope, torch.zeros_like(slope)), unit * (slope.abs() + block.target.abs())


def _slope(design: Design, block: Block, theta: Tensor, unit: float) -> tuple[Twofold, Tensor]:
    """Slopes with twice the digits, or at least of outputs that have them, and how far they are off."""
    loss, y = design.loss, block.target
    flat = block.rows if design.layer is not None else block.rows.flatten(0, 1)
    z = Twofold(*(each.reshape(y.shape) for each in twofold.outputs(flat, theta)))
    if block.offset is not None:
        high, rest = twofold.total(z.high, block.offset)
        z = twofold.total(high, rest + z.low)
    if loss.name not in ("squared error", "Huber's error"):
        slope = loss.slope(z.high, y)
        off = unit * (_bend(loss) * z.high.abs() + slope.abs() + y.abs())
        return Twofold(slope, torch.zeros_like(slope)), off
    high, rest = twofold.total(z.high, -y)
    high, low = twofold.total(high, rest + z.low)
    factor = CURVATURE[loss.name] * loss.scale
    if loss.name == "Huber's error":
        inside = high.abs() < loss.delta
        high, low = high.clamp(-loss.delta, loss.delta), torch.where(inside, low, torch.zeros_like(low))
    scaled = twofold.times(high, torch.full_like(high, factor))
    return Twofold(scaled.high, scaled.low + factor * low), torch.zeros_like(high)
