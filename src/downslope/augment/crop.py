"""Random crops: of a padded image, and of a part that is brought back to full size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from downslope.augment.image import Geometric, Mode, padded, windows


@dataclass(frozen=True)
class Crop(Geometric):
    """A window at a uniformly random place of the image with `padding` around it.

    Without `size` the window is as large as the image: the shift by up to `padding` pixels that goes with
    CIFAR-10 (He, Zhang, Ren and Sun 2016, section 4.2). A smaller window is for models that take any size,
    since evaluation sees whole images. Examples that are not changed get the window in the middle.

    Args:
        padding: Pixels around the image, a whole number from 0.
        size: Height and width of the window, or one number for both; None for those of the image.
        mode: What the padding holds: "constant", "replicate", "reflect" or "circular".
        value: What it holds, for "constant".
        p: Share of the examples whose window is at a random place, in [0, 1].

    Raises:
        InputError: a parameter outside its domain, a window larger than the padded image, or one that can
            miss the image.

    Equivalent to `torchvision.transforms.v2.RandomCrop`, but for a draw for each example.
    """

    name: ClassVar[str] = "crop"

    padding: int = 4
    size: int | tuple[int, int] | None = None
    mode: Mode = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        padding: Any = self.padding
        if not isinstance(padding, int) or isinstance(padding, bool) or padding < 0:
            raise self.refuse(f"padding={padding!r}: must be a whole number of pixels from 0")
        for side in () if self.size is None else self._sides(0, 0):
            if not isinstance(side, int) or isinstance(side, bool) or side < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise self.refuse(f"size={self.size!r}: must be pixels from 1, one number or (height, width)")
        if self.mode not in get_args(Mode):
            raise self.refuse(f"mode={self.mode!r}: must be one of {', '.join(map(repr, get_args(Mode)))}")

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        if self.size is None:
            return height, width
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """Row and column of each window's upper left corner, in the padded image; the windows' size."""
        height, width = inputs.shape[-2:]
        sides = self._sides(height, width)
        corners: list[Tensor] = []
        for side, whole in zip(sides, (height, width), strict=True):
            room = whole + 2 * self.padding - side
            if room < 0:
                raise self.refuse(
                    f"size={self.size!r}: larger than images of {height} by {width} pixels with "
                    f"{self.padding} around"
                )
            if self.size is None and self.mode == "constant" and self.padding >= side:
                raise self.refuse(
                    f"padding={self.padding!r} takes images of {height} by {width} pixels out of sight: "
                    f"windows of {side} pixels can hold padding alone"
                )
            drawn = torch.randint(0, room + 1, (len(inputs),), device=inputs.device)
            corners.append(torch.where(changed, drawn, room // 2))
        return corners, sides

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """The windows."""
        del mask
        (top, left), sides = moves
        around = padded(images, (self.padding, self.padding, self.padding, self.padding), self.mode, value)
        return windows(around, top, left, sides)
