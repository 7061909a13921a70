"""The plane in which a training moved most.

Li et al. 2018, Visualizing the loss landscape of neural nets, section 7: principal directions of the weights
along the way, less the last ones. They are centred, so that the shares are those of the variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.ground import ModelGround
from downslope.terrain.slices.directions import Direction

CAVEAT = (
    "a random walk would look alike: in many dimensions its first two principal directions hold 61 % and "
    "15 % of its variance, and it draws a parabola (Antognini and Sohl-Dickstein 2018)"
)


def principal(
    ground: ModelGround, ways: Sequence[Sequence[Tensor]], dimensions: int
) -> tuple[list[Direction], list[tuple[float, float]], list[str]]:
    """Unit principal directions of trajectories, ends that hold them, and what is to be told.

    The singular vectors of the matrix with rows ``w_t - w_T``, centred, by its small Gram matrix: memory of
    the trajectories and no more. The ground is put at the end of the first, the origin of the plane.

    Args:
        ground: Whose weights these are.
        ways: Flat vectors in order, of each.
        dimensions: 1 or 2.

    Raises:
        InputError: no trajectory, too short, or one that does not move in so many directions.
    """
    points = [each for way in ways for each in way]
    if len(points) < dimensions + 1:
        count = f"{len(points)} points" if ways else "none"
        raise InputError(
            f"directions='pca' needs a trajectory of at least {dimensions + 1} points, here is {count}: give "
            "trajectory=, such as a ds.Recorder() that fit had as on_probe"
        )
    last = ways[0][-1]
    away = torch.stack([each.double() for each in points]) - last.double()
    rows = away - away.mean(0)
    linalg: Any = torch.linalg
    pair: tuple[Tensor, Tensor] = linalg.eigh(rows @ rows.T)
    squares, vectors = pair[0].flip(0).clamp_min(0), pair[1].flip(1)
    rounding = len(points) * torch.finfo(torch.float64).eps * float(squares[0])
    if not float(squares[dimensions - 1]) > rounding:
        raise InputError(f"directions='pca': the trajectory does not move in {dimensions} directions")
    shares: list[float] = (squares / squares.sum()).tolist()
    found: list[Direction] = []
    ends: list[tuple[float, float]] = []
    for k in range(dimensions):
        unit: Tensor = rows.T @ vectors[:, k] / squares[k].sqrt()
        at: list[float] = (away @ unit).tolist()
        if at[0] > 0:  # every picture starts on the left, or below
            unit, at = -unit, [-each for each in at]
        low, high = min(at), max(at)
        margin = 0.2 * (high - low)
        found.append(Direction(unit.to(last), f"principal direction {k + 1}, {100 * shares[k]:.0f} %"))
        ends.append((low - margin, high + margin))
    ground.put(last)
    share = 100 * sum(shares[:dimensions])
    what = "plane" if dimensions == 2 else "line"
    told = f"the {what} holds {share:.0f} % of the variance of the way"
    return found, ends, [told, CAVEAT]
