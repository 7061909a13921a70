"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, II.B), with an affine last layer."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import Norm, activation_of, dropout_of, image, norm2d, sizes


def lenet(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 6,
    activation: str = "tanh",
    dropout: float = 0.0,
    norm: Norm | None = None,
) -> nn.Module:
    """Convolution 5 by 5, mean pooling by 2, the same again, then hidden layers of 120 and 84 units.

    At its defaults, on one channel of 28 or 32 pixels and with 10 outputs, it has the 61 706 parameters of
    the usual form: 156 + 2416 + 48 120 + 10 164 + 850. Smaller images than 32 are padded by 2, as the
    paper centres its 28 pixels in 32. Its modules are numbered in the order of the forward pass.

    Differs from the paper, whose third layer reads a chosen subset of the maps, whose pooling has weights,
    and whose output is a distance to stored patterns (60 000 parameters).

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least 12.
        outputs: number of outputs, at least 1.
        width: channels of the first layer, at least 1; the others keep their ratio to it (16, 120, 84 of 6).
        activation: a name such as "tanh", "relu", "sigmoid".
        dropout: share dropped behind each hidden layer in training, float in [0, 1); 0 in the paper.
        norm: "batch" or "layer" behind each convolution, or None.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain, or images too small.
    """
    sizes(channels=channels, outputs=outputs, width=width)
    height, across = image(size, 12, "lenet convolves by 5 and halves twice")
    padding = 2 if min(height, across) < 32 else 0
    second, third, fourth = max(1, 8 * width // 3), 20 * width, 14 * width

    def left(pixels: int) -> int:
        return ((pixels + 2 * padding - 4) // 2 - 4) // 2

    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=5, padding=padding),
        *norm2d(norm, width),
        activation_of(activation),
        nn.AvgPool2d(2),
        nn.Conv2d(width, second, kernel_size=5),
        *norm2d(norm, second),
        activation_of(activation),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(second * left(height) * left(across), third),
        activation_of(activation),
        *dropout_of(dropout),
        nn.Linear(third, fourth),
        activation_of(activation),
        *dropout_of(dropout),
        nn.Linear(fourth, outputs),
    )
