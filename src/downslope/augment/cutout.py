"""Cutout: a square of the image left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from downslope.augment.augmentation import Pair, chosen
from downslope.augment.boxes import boxes
from downslope.augment.image import OfImages


@dataclass(frozen=True)
class Cutout(OfImages):
    """A square of `size` pixels, its centre uniform over the pixels, is set to `value`.

    At the border part of the square lies outside, which the paper found to matter.

    Args:
        size: Side in pixels, a whole number from 1; the paper's: 16 of 32 for CIFAR-10.
        value: What the square is filled with; 0 is the mean of standardised inputs.
        p: Share of the examples that are cut, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.

    Source: DeVries and Taylor 2017, "Improved regularization of CNNs with Cutout".
    """

    name: ClassVar[str] = "cutout"

    size: int = 8
    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise self.refuse(f"size={self.size!r}: must be a whole number of pixels from 1")

    def change(self, pair: Pair) -> Pair:
        """Inputs with a square left out; the target stays."""
        self.check_images(pair.inputs)
        images = pair.inputs
        n, device = len(images), images.device
        changed = chosen(n, self.p, images)
        # An even square's centre lies between pixels, an odd one's on a pixel: so it has `size` of them.
        middle = 0.5 if self.size % 2 else 1.0
        centre = torch.stack(
            [torch.randint(0, side, (n,), device=device) for side in images.shape[-2:]], 1
        ).float()
        sides = torch.full((n, 2), float(self.size), device=device)
        gone = boxes(images, centre + middle, sides) & changed[:, None, None, None]
        return Pair(images.masked_fill(gone, self.value), pair.target)
