"""Shifts of images by whole pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from downslope.augment.image import Geometric, Mode, padded, windows


@dataclass(frozen=True)
class Shift(Geometric):
    """Images moved by whole pixels, ``y[i, j] = x[i - a, j - b]``, a and b uniform in [-by, by].

    Whole pixels need no interpolation: nothing is blurred. Equivalent to `scipy.ndimage.shift` with order 0.

    Args:
        by: Most pixels up, down, left and right: a whole number from 0, or a share of each side in (0, 1).
        mode: What comes in at the border: "constant", "replicate" (the border's pixel), "reflect" (mirrored
            about the border's pixel) or "circular" (what went out on the other side).
        value: What comes in, for "constant".
        p: Share of the examples that are shifted, in [0, 1].

    Raises:
        InputError: a parameter outside its domain, or a shift as large as the image.
    """

    name: ClassVar[str] = "shift"

    by: int | float = 2
    mode: Mode = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.by, int) and not isinstance(self.by, bool) and self.by >= 0
        share = isinstance(self.by, float) and 0 < self.by < 1
        if not (whole or share):
            raise self.refuse(
                f"by={self.by!r}: must be a whole number of pixels from 0, or a share of the side in (0, 1)"
            )
        if self.mode not in get_args(Mode):
            raise self.refuse(f"mode={self.mode!r}: must be one of {', '.join(map(repr, get_args(Mode)))}")

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """Pixels down and to the right, for each example, and the most there may be."""
        height, width = inputs.shape[-2:]
        most = [self.by if isinstance(self.by, int) else int(self.by * side) for side in (height, width)]
        if most[0] >= height or most[1] >= width:
            raise self.refuse(f"by={self.by!r} takes images of {height} by {width} pixels out of sight")
        drawn = [
            torch.randint(-each, each + 1, (len(inputs),), device=inputs.device) * changed for each in most
        ]
        return drawn, most

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """`images` moved by so many pixels."""
        del mask
        (down, right), (rows, across) = moves
        around = padded(images, (across, across, rows, rows), self.mode, value)
        return windows(around, rows - down, across - right, (images.shape[-2], images.shape[-1]))
