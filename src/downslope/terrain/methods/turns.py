"""Whose turn it is: coordinates or blocks one after another, in an order that a resumed run goes on with."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor


class Turns:
    """The order of turns.

    Args:
        memory: Of the method; holds how many turns there were.
        count: Of coordinates or blocks.
        order: "cyclic", "random" (another permutation each round), or "greedy" (the largest size).
        seed: Of the permutations.
    """

    def __init__(self, memory: MutableMapping[str, Any], count: int, order: str, seed: int) -> None:
        self.memory, self.count, self.order, self.seed = memory, count, order, seed
        self._round, self._drawn = -1, torch.zeros(0, dtype=torch.int64)

    def next(self, sizes: Tensor) -> int:
        """The index whose turn it is.

        Args:
            sizes: Of the gradient at each, shape (count,).
        """
        turn = int(self.memory.get("turns", 0))
        self.memory["turns"] = turn + 1
        if self.order == "greedy":
            return int(sizes.argmax())
        around, place = divmod(turn, self.count)
        if self.order == "cyclic":
            return place
        if around != self._round:
            draw = torch.Generator().manual_seed(self.seed + 7919 * around)
            self._round, self._drawn = around, torch.randperm(self.count, generator=draw)
        return int(self._drawn[place])
