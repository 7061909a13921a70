"""Changes of brightness, contrast, saturation and hue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.augment.augmentation import Pair, chosen, columns, uniform
from downslope.augment.image import OfImages

GREY = (0.299, 0.587, 0.114)
"""Share of red, green and blue in the brightness that is seen (ITU-R BT.601)."""

_YIQ = (GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""RGB to brightness and the two axes of colour (NTSC 1953)."""


@dataclass(frozen=True)
class Colour(OfImages):
    """Brightness, contrast, saturation and hue changed, in this order, each by a factor of its own.

    brightness ``b x``; contrast ``c x + (1 - c) mean(grey)``; saturation ``s x + (1 - s) grey``, b, c, s
    uniform in [1 - a, 1 + a]; hue: the colours turned about the grey axis by a share U(-a, a) of the circle.

    Differs from `torchvision.transforms.v2.ColorJitter`: a draw for each example, a fixed order, hue turned
    in YIQ, which keeps the brightness that is seen and takes any numbers (there in HSV, which wants [0, 1]),
    and nothing is cut off unless `bounds` say so.

    Args:
        brightness: a, in [0, 1].
        contrast: a, in [0, 1].
        saturation: a, in [0, 1]; None is 0.2 for images of three channels and nothing for others.
        hue: a, in [0, 0.5], a share of the circle of colours; None is 0.02 for three channels.
        bounds: Least and largest value of a pixel, beyond which it is cut off; None for no bounds.
        p: Share of the examples that are changed, in [0, 1].

    Raises:
        InputError: a parameter outside its domain, or a saturation or hue for images without three channels.
    """

    name: ClassVar[str] = "colour"

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float | None = None
    hue: float | None = None
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) is not None:
                self.check_share(name, getattr(self, name))
        if self.hue is not None and not 0 <= self.hue <= 0.5:
            raise self.refuse(
                f"hue={self.hue!r}: must lie in [0, 0.5], it is a share of the circle of colours"
            )
        if self.bounds is not None:
            self.check_range("bounds", self.bounds, -math.inf, math.inf)

    def change(self, pair: Pair) -> Pair:
        """Inputs recoloured; the target stays."""
        self.check_images(pair.inputs)
        images = pair.inputs
        n, channels = len(images), images.shape[1]
        if channels != 3 and (self.saturation or self.hue):
            raise self.refuse(
                f"saturation and hue are of red, green and blue, and the images have {channels} channels"
            )
        changed = chosen(n, self.p, images)
        b = uniform(n, 1 - self.brightness, 1 + self.brightness, images).to(images.dtype)
        c = uniform(n, 1 - self.contrast, 1 + self.contrast, images).to(images.dtype)
        new = images * columns(b, images)
        grey = _grey(new).mean((1, 2, 3), keepdim=True)
        new = torch.lerp(grey.expand_as(new), new, columns(c, images))
        if channels == 3 and not (self.saturation == 0 and self.hue == 0):
            matrix = self._colours(n, images).to(images.dtype)
            new = (matrix @ new.flatten(2)).reshape(images.shape)
        if self.bounds is not None:
            new = new.clamp(*self.bounds)
        return Pair(self.only(new, images, changed), pair.target)

    def _colours(self, n: int, images: Tensor) -> Tensor:
        """Saturation, then hue, as one matrix of the channels for each example; shape (n, 3, 3)."""
        most = 0.2 if self.saturation is None else self.saturation
        share = 0.02 if self.hue is None else self.hue
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        like: dict[str, Any] = {"dtype": dtype, "device": images.device}
        s = uniform(n, 1 - most, 1 + most, images).to(dtype)[:, None, None]
        turn = uniform(n, -share, share, images).to(dtype) * (2 * math.pi)
        saturated = s * torch.eye(3, **like) + (1 - s) * torch.tensor(GREY, **like).expand(3, 3)
        one, zero, cos, sin = torch.ones_like(turn), torch.zeros_like(turn), turn.cos(), turn.sin()
        rows = [[one, zero, zero], [zero, cos, -sin], [zero, sin, cos]]
        turned = torch.stack([torch.stack(row, 1) for row in rows], 1)
        yiq, back = torch.tensor(_YIQ, **like), torch.tensor(_inverse(), **like)
        return back @ turned @ yiq @ saturated


def _grey(images: Tensor) -> Tensor:
    """Brightness as it is seen, shape (n, 1, h, w); of other than three channels their mean."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    weights = images.new_tensor(GREY)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def _inverse() -> list[list[float]]:
    return torch.linalg.inv(torch.tensor(_YIQ, dtype=torch.float64)).tolist()
