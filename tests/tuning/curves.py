"""Members with known learning curves, trained by nothing: what strategies are held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


class Curves:
    """Stands for training: member i has the loss ``curve(i, units)``, and what it costs is counted.

    Args:
        curve: ``(member, units) -> loss``.
    """

    def __init__(self, curve: Callable[[int, int], float]) -> None:
        self.curve = curve
        self.begun = 0
        self.had: dict[int, int] = {}
        self.calls: list[tuple[tuple[int, ...], int]] = []

    def ask(self, n: int) -> list[int]:
        self.begun += n
        return list(range(self.begun - n, self.begun))

    def train(self, members: Sequence[int], units: int) -> list[float]:
        self.calls.append((tuple(members), units))
        for member in members:
            assert units > self.had.get(member, 0), "a member never trains backwards or for nothing"
            self.had[member] = units
        return [self.curve(member, units) for member in members]

    @property
    def spent(self) -> int:
        return sum(self.had.values())


def limits(n: int, seed: int, *, least: float = 0.02) -> np.ndarray:
    """Limits in [0, 1] in random places, the best ahead of the next by at least `least`."""
    draw = np.random.default_rng((17, seed))
    found = np.sort(draw.uniform(0.1 + least, 1.0, n))
    found[0] = 0.1
    return draw.permutation(found)
