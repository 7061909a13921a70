"""Affine maps of images by interpolation, given in pixels from the centre."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_PADDING = {"constant": "zeros", "replicate": "border", "reflect": "reflection"}
"""Our modes, which are those of `torch.nn.functional.pad`, to those of `grid_sample`."""


def warped(images: Tensor, matrix: Tensor, offset: Tensor, *, mask: bool, mode: str, value: float) -> Tensor:
    """Each image read at ``A (u, v) + b``, where (u, v) is a pixel's distance from the centre, x first.

    Differs from `scipy.ndimage.affine_transform` in the axes' order (there y first), in the origin (there
    the corner) and in that every image has its own map. Bilinear, or the nearest pixel.

    Args:
        images: Shape (n, c, h, w).
        matrix: A, shape (n, 2, 2), float32.
        offset: b in pixels, shape (n, 2), float32.
        mask: Whether to take the nearest pixel instead of a mean of four.
        mode: "constant", "replicate" or "reflect" (about the border's edge, as numpy's "symmetric").
        value: What stands beyond the border, for "constant".

    Returns:
        Shape and dtype of `images`. Half precision and whole numbers are read in float32, and whole numbers
        up to 2**24 are exact there.
    """
    n, _, height, width = images.shape
    dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
    (a, b), (c, d) = (row.unbind(1) for row in matrix.unbind(1))
    x, y = offset.unbind(1)
    across = torch.stack([a, b * (height / width), x * (2 / width)], 1)  # torch's sides are 2 long
    down = torch.stack([c * (width / height), d, y * (2 / height)], 1)
    theta = torch.stack([across, down], 1).to(dtype)
    grid = functional.affine_grid(theta, [n, images.shape[1], height, width], align_corners=False)
    shift = value if mode == "constant" else 0.0
    read = functional.grid_sample(
        images.to(dtype) - shift, grid, "nearest" if mask else "bilinear", _PADDING[mode], align_corners=False
    )
    return (read + shift).to(images.dtype) if shift else read.to(images.dtype)
