"""Random erasing: a box of random size and shape left out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from downslope.augment.augmentation import Pair, chosen, uniform
from downslope.augment.boxes import boxes
from downslope.augment.image import OfImages


@dataclass(frozen=True)
class Erase(OfImages):
    """A box inside the image, area share U(scale), height over width log-uniform in `ratio`, set to `value`.

    Differs from the paper where a box does not fit: its longer side is cut to the image's instead of another
    draw.

    Args:
        scale: Smallest and largest share of the area, in (0, 1].
        ratio: Smallest and largest height over width, in (0, inf).
        value: What the box is filled with.
        p: Share of the examples that are erased, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.

    Source: Zhong, Zheng, Kang, Li and Yang 2020, "Random erasing data augmentation".
    """

    name: ClassVar[str] = "erase"

    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 10 / 3)
    value: float = 0.0
    p: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("scale", self.scale, 0.0, 1.0)
        self.check_range("ratio", self.ratio, 0.0, 1e6)

    def change(self, pair: Pair) -> Pair:
        """Inputs with a box left out; the target stays."""
        self.check_images(pair.inputs)
        images = pair.inputs
        n, (height, width) = len(images), images.shape[-2:]
        changed = chosen(n, self.p, images)
        area = uniform(n, *self.scale, images) * (height * width)
        ratio = uniform(n, math.log(self.ratio[0]), math.log(self.ratio[1]), images).exp()
        whole = torch.tensor([height, width], dtype=torch.float32, device=images.device)
        sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).round().clamp(min=1)
        sides = torch.minimum(sides, whole)
        corner = torch.rand(n, 2, dtype=torch.float32, device=images.device) * (whole - sides + 1)
        gone = boxes(images, corner.floor() + sides / 2, sides) & changed[:, None, None, None]
        return Pair(images.masked_fill(gone, self.value), pair.target)
