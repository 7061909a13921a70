"""Augmentations of images: what they share, and targets that are images themselves and move along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from downslope.augment.augmentation import Augmentation, Pair, chosen
from downslope.core.class_targets import IGNORED

Mode = Literal["constant", "reflect", "replicate", "circular"]
"""What stands beyond the border, spelt as `torch.nn.functional.pad` does."""


@dataclass(frozen=True)
class OfImages(Augmentation):
    """An augmentation of images (n, c, h, w)."""

    def check_images(self, inputs: Tensor) -> None:
        """Refuse inputs that are no images.

        Raises:
            InputError: inputs of another number of axes; it says how flat rows are read as images.
        """
        if inputs.dim() != 4:
            raise self.refuse(
                f"takes images (n, c, h, w), and the inputs are {tuple(inputs.shape)}: flat rows are read as "
                f"images by chain({self.name}, shape=(c, h, w))"
            )

    def only(self, new: Tensor, old: Tensor, changed: Tensor) -> Tensor:
        """`new` for the examples of `changed` (bool, shape (n,)), `old` for the others."""
        return new if self.p >= 1 else torch.where(changed[:, None, None, None], new, old)


@dataclass(frozen=True)
class Geometric(OfImages):
    """A change of place. A target that is an image of the same size, such as a mask, moves along.

    Class indices in such a target stay whole numbers (the nearest pixel's), and what comes from beyond a
    border of constant values counts for no class: -100.
    """

    def change(self, pair: Pair) -> Pair:
        """Inputs moved, and the target where it is an image."""
        self.check_images(pair.inputs)
        inputs, target = pair
        changed = chosen(len(inputs), self.p, inputs)
        moves = self.draw(inputs, changed)
        moved = self.move(inputs, moves, mask=False, value=getattr(self, "value", 0.0))
        if isinstance(target, Tensor) and is_image(target, inputs):
            target = self._along(target, moves)
        return Pair(moved, target)

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """What is to be done with each example; nothing with those that are not in `changed`."""
        raise NotImplementedError

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """`images` moved by what `draw` gave; `mask`: values are not to be interpolated."""
        raise NotImplementedError

    def _along(self, target: Tensor, moves: Any) -> Tensor:
        images = target if target.dim() == 4 else target[:, None]
        if target.is_floating_point():
            moved = self.move(images, moves, mask=False, value=0.0)
        else:
            wide = images if images.dtype in (torch.int64, torch.int32, torch.int16) else images.long()
            moved = self.move(wide, moves, mask=True, value=IGNORED)
        return moved if target.dim() == 4 else moved[:, 0]


def is_image(target: Tensor, inputs: Tensor) -> bool:
    """Whether `target` is (n, h, w) or (n, c, h, w) with the height and width of `inputs`."""
    return target.dim() in (3, 4) and target.shape[-2:] == inputs.shape[-2:] and len(target) == len(inputs)


def padded(images: Tensor, pad: tuple[int, int, int, int], mode: Mode, value: float) -> Tensor:
    """`images` with (left, right, top, bottom) pixels around, whole numbers among them."""
    if not any(pad):
        return images
    if mode == "constant":
        return functional.pad(images, pad, value=value)
    if images.is_floating_point():
        return functional.pad(images, pad, mode=mode)
    return functional.pad(images.double(), pad, mode=mode).to(images.dtype)


def windows(images: Tensor, top: Tensor, left: Tensor, size: tuple[int, int]) -> Tensor:
    """From each image (c, H, W) the window of `size` whose upper left corner is at (top, left).

    Args:
        images: Shape (n, c, H, W).
        top: Row of each corner, int64, shape (n,), in [0, H - size[0]].
        left: Column of each corner, the same.
        size: Height and width of the windows.

    Returns:
        Shape (n, c, *size).
    """
    (n, channels, *whole), (height, width), device = images.shape, size, images.device
    pixels = images.contiguous()
    planes = torch.arange(n * channels, device=device).reshape(n, channels, 1) * whole[0]
    rows = top[:, None] + torch.arange(height, device=device)
    begins = ((planes + rows[:, None]) * whole[1] + left[:, None, None]).reshape(-1)
    # Every run of `width` numbers in memory as a row of one overlapping view: a window is some of these rows.
    runs = pixels.as_strided((pixels.numel() - width + 1, width), (1, 1))
    return runs.index_select(0, begins).reshape(n, channels, height, width)
