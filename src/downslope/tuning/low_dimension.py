"""Why random search and no grid: the objective of low effective dimension of Bergstra and Bengio (2012).

Of d dimensions only m matter: a trial hits if it falls into a box of side s of these m, wherever it is in the
others. T random trials hit with probability ``1 - (1 - s^m)^T``, however large d is. A grid of ``T = k^d``
trials has k values of each dimension; with the box anywhere inside, it hits with probability
``((k - 2) s / (1 - s))^m`` where its spacing ``1 / (k - 1)`` is at least s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from downslope.core.errors import InputError
from downslope.core.randomness import address
from downslope.core.space import uniform
from downslope.tuning.samplers.grid import Grid, steps
from downslope.tuning.samplers.random import Random

Box = tuple[tuple[float, float], ...]
"""Low and high end in each dimension that matters."""


@dataclass(frozen=True)
class Comparison:
    """How often random search and a grid of as many trials hit.

    Attributes:
        trials: T, of each search.
        dimensions: d.
        mattering: m.
        side: s.
        repeats: Boxes that were drawn, each for one search of either kind.
        random: Share of the boxes that random search hit.
        grid: Share that the grid hit.
        random_by_hand: ``1 - (1 - s^m)^T``.
        grid_by_hand: ``((k - 2) s / (1 - s))^m``.
        box: The last box.
        random_points: The trials of the last random search, shape (T, d).
        grid_points: Those of the grid.
    """

    trials: int
    dimensions: int
    mattering: int
    side: float
    repeats: int
    random: float
    grid: float
    random_by_hand: float
    grid_by_hand: float
    box: Box
    random_points: tuple[tuple[float, ...], ...]
    grid_points: tuple[tuple[float, ...], ...]

    def __str__(self) -> str:
        lattice = " x ".join([str(round(self.trials ** (1 / self.dimensions)))] * self.dimensions)
        verb = "matters" if self.mattering == 1 else "matter"
        return (
            f"{self.trials} trials in {self.dimensions} dimensions, of which {self.mattering} {verb}: "
            f"random search finds {self.random:.2f} of the boxes of side {self.side:g} "
            f"({self.random_by_hand:.2f} by hand), a grid of {lattice} finds {self.grid:.2f} "
            f"({self.grid_by_hand:.2f})"
        )


def low_dimension(
    trials: int = 64,
    dimensions: int = 3,
    mattering: int = 1,
    side: float = 0.05,
    repeats: int = 200,
    seed: int = 0,
) -> Comparison:
    """Let random search and a grid look for boxes drawn at random, with the samplers of `tune`.

    Args:
        trials: ``k^dimensions``, from 3 to the power of `dimensions`.
        dimensions: d, from 1.
        mattering: m, in [1, d].
        side: s, in (0, 1 / (k - 1)].
        repeats: Boxes, from 1.
        seed: Of boxes and draws.

    Raises:
        InputError: an argument outside of its domain.

    Source: Bergstra and Bengio 2012, "Random search for hyper-parameter optimization", JMLR 13, section 2.
    """
    space = {f"x{i}": uniform(0.0, 1.0) for i in range(dimensions)}
    k = steps(space, trials)
    if k**dimensions != trials or k < 3:
        raise InputError(
            f"trials={trials} in {dimensions} dimensions: must be k**{dimensions} for a k from 3"
        )
    if not 1 <= mattering <= dimensions or not 0 < side <= 1 / (k - 1) or repeats < 1:
        raise InputError(
            f"mattering={mattering}, side={side}, repeats={repeats}: must lie in [1, {dimensions}], "
            f"(0, {1 / (k - 1):.3g}] and [1, inf)"
        )
    lattice = [_point(each) for each in Grid(space, trials=trials).points]
    found = {"random": 0, "grid": 0}
    box: Box = ()
    drawn: list[tuple[float, ...]] = []
    for i in range(repeats):
        corners = [address(seed, "trial", i, axis) / 2**63 * (1 - side) for axis in range(mattering)]
        box = tuple((low, low + side) for low in corners)
        drawn = [_point(each) for each in Random(space, seed=address(seed, "trial", i)).ask([], trials)]
        found["random"] += any(hits(box, each) for each in drawn)
        found["grid"] += any(hits(box, each) for each in lattice)
    return Comparison(
        trials=trials,
        dimensions=dimensions,
        mattering=mattering,
        side=side,
        repeats=repeats,
        random=found["random"] / repeats,
        grid=found["grid"] / repeats,
        random_by_hand=1 - (1 - side**mattering) ** trials,
        grid_by_hand=((k - 2) * side / (1 - side)) ** mattering,
        box=box,
        random_points=tuple(drawn),
        grid_points=tuple(lattice),
    )


def hits(box: Box, point: Sequence[float]) -> bool:
    """Whether `point` is in `box` in every dimension that matters."""
    return all(low <= x <= high for (low, high), x in zip(box, point, strict=False))


def _point(values: dict[str, Any]) -> tuple[float, ...]:
    return tuple(float(each) for each in values.values())
