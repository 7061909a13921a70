"""What a script's model said of all its held-out examples when it was last scored on them."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

MOST = 400_000
"""Numbers that are kept of the latest scoring at a place, at most."""

PLACES = 16
"""Places of a script that are told apart."""


class Tally:
    """Outputs and targets of the latest scoring at each place, as the loss was handed them."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[int, list[tuple[Tensor, Tensor]], int]] = {}

    def add(self, place: Hashable, step: int, output: Tensor, target: Tensor) -> None:
        """A loss compared `output` with `target` after `step` steps."""
        known = self._kept.get(place)
        if known is None and len(self._kept) >= PLACES:
            return
        at, pairs, numbers = known or (step, list[tuple[Tensor, Tensor]](), 0)
        if at != step:
            pairs, numbers = [], 0
        size = output.numel() + target.numel()
        if output.dim() and target.dim() and numbers + size <= MOST:
            pairs.append((output.detach().clone(), target.detach().clone()))
            numbers += size
        self._kept[place] = step, pairs, numbers

    def of(self, place: Hashable) -> tuple[Tensor, Tensor] | None:
        """All that was kept of a place, joined; None where that is nothing, or of several forms."""
        pairs = self._kept[place][1] if place in self._kept else []
        shapes = {(made.shape[1:], wanted.shape[1:], made.dtype, wanted.dtype) for made, wanted in pairs}
        if len(shapes) != 1:
            return None
        made, wanted = (torch.cat(each).cpu() for each in zip(*pairs, strict=True))
        return made, wanted
