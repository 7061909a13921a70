"""Quasi-random search: a scrambled Sobol sequence, spread more evenly than random draws.

Sobol 1967; scrambled as by Owen 1998.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from downslope.core.space import draw
from downslope.tuning.samplers.sampler import Sampler, Seen, drawn


class Sobol(Sampler):
    """Points of one scrambled sequence, by their number: a resumed search goes on where it was.

    Each dimension alone still gets as many different values as there are trials, as in random search. The
    points are SciPy's. Even spread over all dimensions together shows at powers of two.
    """

    name = "sobol"

    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """The next `n` points."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(self.space), scramble=True, rng=self.seed)
        if first := drawn(seen):
            sequence.fast_forward(first)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that n is no power of two
            return [draw(self.space, [float(u) for u in point]) for point in sequence.random(n)]
