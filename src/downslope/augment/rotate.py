"""Rotations of images about their centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from downslope.augment.augmentation import uniform
from downslope.augment.image import Geometric
from downslope.augment.warp import warped

Mode = Literal["constant", "reflect", "replicate"]


@dataclass(frozen=True)
class Rotate(Geometric):
    """Images turned about their centre by an angle uniform in [-degrees, degrees], against the clock.

    ``y(u) = x(R u)``, u from the centre, R the rotation by the angle (y points down); bilinear.
    Equivalent to `scipy.ndimage.rotate` with ``reshape=False, order=1, mode="grid-constant"``.

    Args:
        degrees: Largest angle, in [0, 180].
        mode: What stands beyond the border: "constant", "replicate" or "reflect".
        value: What stands there, for "constant".
        p: Share of the examples that are turned, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.
    """

    name: ClassVar[str] = "rotate"

    degrees: float = 15.0
    mode: Mode = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_zero("degrees", self.degrees)
        if self.degrees > 180:
            raise self.refuse(f"degrees={self.degrees!r}: must lie in [0, 180], it is the largest angle")
        if self.mode not in get_args(Mode):
            raise self.refuse(f"mode={self.mode!r}: must be one of {', '.join(map(repr, get_args(Mode)))}")

    def draw(self, inputs: Tensor, changed: Tensor) -> Any:
        """The angle of each example in radians, and which are turned."""
        most = math.radians(self.degrees)
        return uniform(len(inputs), -most, most, inputs), changed

    def move(self, images: Tensor, moves: Any, *, mask: bool, value: float) -> Tensor:
        """`images` turned by these angles."""
        angle, changed = moves
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        offset = torch.zeros(len(images), 2, device=images.device)
        turned = warped(images, matrix, offset, mask=mask, mode=self.mode, value=value)
        return self.only(turned, images, changed)
