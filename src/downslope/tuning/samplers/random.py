"""Random search: independent draws from the space.

With the same number of trials it tries as many different values of every dimension as there are trials, where
a grid tries only the d-th root of that: if few dimensions matter, random search finds their best values and a
grid does not (Bergstra and Bengio 2012, Random search for hyper-parameter optimization, JMLR 13).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from downslope.core.randomness import address
from downslope.core.space import draw
from downslope.tuning.samplers.distinct import finite, tried, untried
from downslope.tuning.samplers.sampler import Sampler, Seen, drawn


class Random(Sampler):
    """Draws with addresses: the value of a key in draw i hangs on (seed, i, key) and on nothing else.

    A search that goes on after an interruption draws what it would have drawn, and a key more or less does
    not change what the others are.
    """

    name = "random"

    def at(self, index: int) -> dict[str, Any]:
        """The draw number `index`, from 0."""
        return draw(self.space, [unit(self.seed, index, key) for key in self.space])

    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """The next `n` draws; of finitely many points those that have not been drawn before."""
        if finite(self.space) and not self.repeats:
            return untried(self.space, self.at, tried(seen), n)
        first = drawn(seen)
        return [self.at(first + i) for i in range(n)]


def unit(seed: int, index: int, key: str) -> float:
    """A number uniform in [0, 1) for this key in draw `index`."""
    return address(seed, "trial", index, zlib.crc32(key.encode())) / 2**63
