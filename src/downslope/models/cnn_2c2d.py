"""DeepOBS's 2c2d: two convolutions, two dense layers (Schneider, Balles and Hennig 2019)."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import activation_of, dropout_of, image, sizes


def cnn_2c2d(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 32,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Convolution 5 by 5 to 32 channels, pooling by 2, the same to 64, a hidden layer of 1024 units.

    At its defaults, on one channel of 28 pixels and with 10 outputs, architecture and start are those of
    DeepOBS: 3 274 634 parameters, weights from a normal of deviation .05 cut at two deviations, biases .05.
    An image of an odd size is pooled as TensorFlow's "same" does. Its modules are numbered in the order of
    the forward pass.

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least 1.
        outputs: number of outputs, at least 1.
        width: channels of the first convolution, at least 1; the second has twice, the hidden layer 32 times
            as many.
        activation: a name such as "relu", "tanh".
        dropout: share of the hidden layer dropped in training, float in [0, 1); 0 in DeepOBS.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain.
    """
    sizes(channels=channels, outputs=outputs, width=width)
    height, across = image(size, 1, "there is nothing to see")
    flat = 2 * width * -(-height // 4) * -(-across // 4)
    model = nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=5, padding=2),
        activation_of(activation),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(width, 2 * width, kernel_size=5, padding=2),
        activation_of(activation),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(flat, 32 * width),
        activation_of(activation),
        *dropout_of(dropout),
        nn.Linear(32 * width, outputs),
    )
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.05, a=-0.1, b=0.1)
            if module.bias is not None:
                nn.init.constant_(module.bias, 0.05)
    return model
