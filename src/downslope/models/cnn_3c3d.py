"""DeepOBS's 3c3d: three convolutions, three dense layers (Schneider, Balles and Hennig 2019)."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import activation_of, dropout_of, image, sizes


def cnn_3c3d(
    channels: int,
    size: int | tuple[int, int],
    outputs: int,
    *,
    width: int = 64,
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutions of 5, 3, 3 to 64, 96, 128 channels, each pooled 3 by 2; hidden layers of 512 and 256.

    At its defaults, on three channels of 32 pixels and with 10 outputs, architecture and start are those of
    DeepOBS: 895 210 parameters; the first two convolutions lose their border, the third keeps it; weights of
    the convolutions by Xavier's normal, of the dense layers by Xavier's uniform form, biases 0. DeepOBS
    adds a penalty of 0.002 / 2 |w|^2 on all weights, which is no part of the model. Its modules are numbered
    in the order of the forward pass.

    Args:
        channels: of the images, at least 1.
        size: height and width of the images in pixels, or one number for both; at least 9.
        outputs: number of outputs, at least 1.
        width: channels of the first convolution, at least 2; the other layers keep their ratio to it.
        activation: a name such as "relu", "tanh".
        dropout: share of each hidden layer dropped in training, float in [0, 1); 0 in DeepOBS.

    Returns:
        A module (n, channels, height, width) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain, or images too small.
    """
    sizes(channels=channels, outputs=outputs, width=width)
    height, across = image(size, 9, "3c3d cuts borders of 2 and 1 pixels and halves in between")
    before, layers = channels, list[nn.Module]()
    for after, kernel, padding in ((width, 5, 0), (3 * width // 2, 3, 0), (2 * width, 3, 1)):
        height, across = (side + 2 * padding - kernel + 1 for side in (height, across))
        layers += [
            nn.Conv2d(before, max(1, after), kernel_size=kernel, padding=padding),
            activation_of(activation),
            # TensorFlow's "same": an even side is padded behind, an odd one on both sides.
            nn.MaxPool2d(3, 2, padding=(height % 2, across % 2), ceil_mode=True),
        ]
        before, height, across = max(1, after), -(-height // 2), -(-across // 2)
    before, layers = before * height * across, [*layers, nn.Flatten()]
    for units in (8 * width, 4 * width):
        layers += [nn.Linear(before, units), activation_of(activation), *dropout_of(dropout)]
        before = units
    model = nn.Sequential(*layers, nn.Linear(before, outputs))
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
