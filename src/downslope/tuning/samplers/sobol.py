"""Quasi-random search: a scrambled Sobol sequence, spread more evenly than random draws.

Sobol 1967; scrambled by random linear maps of the digits and a shift, Matousek 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.quasirandom import SobolEngine

from downslope.core.space import draw
from downslope.tuning.samplers.distinct import draws, finite, tried, untried
from downslope.tuning.samplers.sampler import Sampler, Seen, drawn

_LAST = 1 - 2.0**-SobolEngine.MAXBIT
"""The largest point: its digits, which float32 would round to one."""


class Sobol(Sampler):
    """Points of one scrambled sequence, by their number: a resumed search goes on where it was.

    Each dimension alone still gets as many different values as there are trials, as in random search. The
    points are torch's. Even spread over all dimensions together shows at powers of two.
    """

    name = "sobol"
    _sequence: SobolEngine | None = None

    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """The next `n` points; of finitely many those that have not been there before."""
        if not finite(self.space) or self.repeats:
            return self._from(drawn(seen), n)
        known = tried(seen)
        sequence = self._from(0, draws(known, n))
        return untried(self.space, sequence.__getitem__, known, n)

    def _from(self, first: int, n: int) -> list[dict[str, Any]]:
        if self._sequence is None or self._sequence.num_generated != first:
            self._sequence = SobolEngine(len(self.space), scramble=True, seed=self.seed)
            if first:
                self._sequence.fast_forward(first)
        points: list[list[float]] = self._sequence.draw(n, dtype=torch.float64).tolist()
        return [draw(self.space, [min(u, _LAST) for u in point]) for point in points]
