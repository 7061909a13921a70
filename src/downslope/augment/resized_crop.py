"""A random part of the image, brought back to full size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.augment.augmentation import uniform
from downslope.augment.image import Geometric
from downslope.augment.warp import warped

TRIES = 10
"""Draws of a box before the largest one that fits is taken; torchvision's number."""


@dataclass(frozen=True)
class ResizedCrop(Geometric):
    """A random box of the image, stretched to the whole: area share U(scale), ratio log-uniform.

    ``w = sqrt(area r), h = sqrt(area / r)``, the place uniform among those inside the image; bilinear. The
    crop of the Inception network (Szegedy et al. 2015, section 6).

    Differs from `torchvision.transforms.v2.RandomResizedCrop`: the box may lie between pixels, nothing is
    smoothed before (a box is never larger than what it is stretched to), and a draw for each example.

    Args:
        scale: Smallest and largest share of the area, in (0, 1].
        ratio: Smallest and largest width over height, in (0, inf).
        p: Share of the examples that are cropped, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.
    """

    name: ClassVar[str] = "resized_crop"

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("scale", self.scale, 0.0, 1.0)
        self.check_range("ratio", self.ratio, 0.0, 1e6)

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """Sides of each box as shares of the image's, the box's centre, and which are cropped."""
        n, (height, width) = len(inputs), inputs.shape[-2:]
        area = uniform(n * TRIES, *self.scale, inputs).reshape(n, TRIES)
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = uniform(n * TRIES, low, high, inputs).exp().reshape(n, TRIES)
        across = (area * ratio * height / width).sqrt()
        down = (area / ratio * width / height).sqrt()
        fits = (across <= 1) & (down <= 1)
        first = fits.int().argmax(1, keepdim=True)
        sides = torch.cat([across.gather(1, first), down.gather(1, first)], 1)
        # None fits: the whole image, cut to the nearest ratio that is allowed.
        nearest = min(max(width / height, self.ratio[0]), self.ratio[1])
        whole = (min(1.0, nearest * height / width), min(1.0, width / height / nearest))
        fallback = torch.tensor(whole, device=inputs.device)
        sides = torch.where(fits.any(1, keepdim=True), sides, fallback)
        place = (torch.rand(n, 2, device=inputs.device, dtype=torch.float32) - 0.5) * (1 - sides)
        return sides, place, changed

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """The boxes, each as large as the image."""
        sides, place, changed = moves
        size = torch.tensor([images.shape[-1], images.shape[-2]], device=images.device)
        # Beyond the outermost pixels' centres a bilinear mean would take in the border's value.
        read = warped(images, torch.diag_embed(sides), place * size, mask=mask, mode="replicate", value=value)
        return self.only(read, images, changed)
