"""Boxes in images, one for each example, as masks."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes(images: Tensor, centre: Tensor, sides: Tensor) -> Tensor:
    """The pixels of a box around `centre` with `sides`, cut at the image's border.

    Args:
        images: Shape (n, c, h, w).
        centre: Row and column, in pixels from the upper left corner, float32, shape (n, 2).
        sides: Height and width in pixels, the same.

    Returns:
        True inside, bool, shape (n, 1, h, w). A pixel is inside if its centre is.
    """
    inside: list[Tensor] = []
    for axis, length in enumerate(images.shape[-2:]):
        pixel = torch.arange(length, device=images.device) + 0.5
        inside.append((pixel - centre[:, axis, None]).abs() * 2 < sides[:, axis, None])
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
