"""Flips of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from downslope.augment.augmentation import chosen
from downslope.augment.image import Geometric

Direction = Literal["horizontal", "vertical", "both"]


@dataclass(frozen=True)
class Flip(Geometric):
    """Images mirrored: ``y[..., j] = x[..., w - 1 - j]`` with probability `p`, exactly.

    For what may face either way (clothes, animals), never for digits or letters: a flip then changes the
    answer. In aerial or microscope images there is no up either: "both".

    Args:
        direction: "horizontal" (left and right), "vertical" (up and down), or "both", each by a draw of its
            own.
        p: Share of the examples that are flipped, in [0, 1]; of "both", in each direction.

    Raises:
        InputError: a parameter outside its domain.

    Equivalent to `torchvision.transforms.v2.RandomHorizontalFlip`, but for a draw for each example.
    """

    name: ClassVar[str] = "flip"

    direction: Direction = "horizontal"
    p: float = field(default=0.5, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction not in get_args(Direction):
            raise self.refuse(f"direction={self.direction!r}: must be 'horizontal', 'vertical' or 'both'")

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """Which examples are flipped along which axis."""
        if self.direction == "both":
            return [(-1, changed), (-2, chosen(len(inputs), self.p, inputs))]
        return [(-1 if self.direction == "horizontal" else -2, changed)]

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """`images` with those examples mirrored."""
        del mask, value
        for axis, changed in moves:
            images = torch.where(changed[:, None, None, None], images.flip(axis), images)
        return images
