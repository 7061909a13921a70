"""A small convolutional network for images."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import Norm, activation_of, dropout_of, image, norm2d, sizes


def cnn(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 16,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
    norm: Norm | None = None,
) -> nn.Module:
    """`depth` blocks of 3 by 3 convolution, norm, activation, pooling by 2; then dropout and an affine map.

    Block i has ``width * 2**i`` channels. Its modules are numbered in the order of the forward pass, so
    each can be replaced by its name.

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least ``2**depth``.
        outputs: number of outputs, at least 1.
        width: channels of the first block, at least 1.
        depth: blocks, at least 1.
        activation: a name such as "relu", "tanh", "gelu", "sigmoid".
        dropout: share of features dropped before the last map in training, float in [0, 1).
        norm: "batch", "layer" (over channels and pixels, as one group) or None.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain, or images too small for so many blocks.
    """
    sizes(channels=channels, outputs=outputs, width=width, depth=depth)
    height, across = image(size, 2**depth, f"{depth} blocks (depth) halve the image each")
    layers: list[nn.Module] = []
    before = channels
    for i in range(depth):
        after = width * 2**i
        layers.append(nn.Conv2d(before, after, kernel_size=3, padding=1))
        layers += norm2d(norm, after)
        layers += [activation_of(activation), nn.MaxPool2d(2)]
        before = after
    flat = before * (height // 2**depth) * (across // 2**depth)
    layers += [nn.Flatten(), *dropout_of(dropout), nn.Linear(flat, outputs)]
    return nn.Sequential(*layers)
