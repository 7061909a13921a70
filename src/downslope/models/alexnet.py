"""A network of AlexNet's order of layers for small images (Krizhevsky, Sutskever and Hinton 2012)."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import Norm, activation_of, dropout_of, image, norm2d, sizes


def alexnet(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 64,
    activation: str = "relu",
    dropout: float = 0.5,
    norm: Norm | None = None,
) -> nn.Module:
    """Five convolutions, pooling 3 by 2 behind the first, second and fifth, two hidden layers with dropout.

    Channels are ``width * (1, 3, 6, 4, 4)``, those of its one-tower form (Krizhevsky 2014), hidden layers
    have ``16 * width`` units. On three channels of 32 pixels with 10 outputs it has 7 706 442 parameters.
    Weights start by He's normal form for fan-in, biases at 0. Its modules are numbered in the order of the
    forward pass.

    Differs from the paper, which is for images of 224 pixels: the first kernel is 5 by 5 without stride, no
    response normalisation (`norm` gives another), weights do not start at N(0, .01^2), and a quarter of the
    hidden units.

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least 8.
        outputs: number of outputs, at least 1.
        width: channels of the first convolution, at least 1; all else keeps its ratio to it.
        activation: a name such as "relu", "gelu".
        dropout: share dropped before each hidden layer in training, float in [0, 1); default of the paper.
        norm: "batch" or "layer" behind each convolution, or None.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain, or images too small.
    """
    sizes(channels=channels, outputs=outputs, width=width)
    height, across = image(size, 8, "alexnet halves three times")
    layers: list[nn.Module] = []
    before = channels
    for times, kernel, pooled in ((1, 5, True), (3, 5, True), (6, 3, False), (4, 3, False), (4, 3, True)):
        layers.append(nn.Conv2d(before, times * width, kernel_size=kernel, padding=kernel // 2))
        layers += [*norm2d(norm, times * width), activation_of(activation)]
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, padding=1))
            height, across = -(-height // 2), -(-across // 2)
        before = times * width
    before, layers = before * height * across, [*layers, nn.Flatten()]
    for _ in range(2):
        layers += [*dropout_of(dropout), nn.Linear(before, 16 * width), activation_of(activation)]
        before = 16 * width
    model = nn.Sequential(*layers, nn.Linear(before, outputs))
    for module in model:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
