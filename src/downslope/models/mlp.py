"""The multilayer perceptron."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import Norm, activation_of, dropout_of, norm_of, sizes


def mlp(
    inputs: int,
    outputs: int,
    *,
    width: int = 64,
    depth: int = 2,
    activation: str = "relu",
    dropout: float = 0.0,
    norm: Norm | None = None,
) -> nn.Module:
    """A fully connected network: `depth` hidden layers of affine map, norm, activation, dropout; then a map.

    Its modules are numbered in the order of the forward pass, so each can be replaced by its name.

    Args:
        inputs: number of features, at least 1; more axes after the first are flattened.
        outputs: number of outputs, at least 1.
        width: units of a hidden layer, at least 1.
        depth: hidden layers, at least 0; 0 is a linear model.
        activation: a name such as "relu", "tanh", "gelu", "sigmoid".
        dropout: share of hidden units dropped in training, float in [0, 1).
        norm: "batch", "layer" or None.

    Returns:
        A module (n, inputs) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain.
    """
    sizes(inputs=inputs, outputs=outputs, width=width)
    if depth:
        sizes(depth=depth)
    layers: list[nn.Module] = [nn.Flatten()]
    before = inputs
    for _ in range(depth):
        layers.append(nn.Linear(before, width))
        layers += norm_of(
            norm, {"batch": lambda: nn.BatchNorm1d(width), "layer": lambda: nn.LayerNorm(width)}
        )
        layers.append(activation_of(activation))
        layers += dropout_of(dropout)
        before = width
    layers.append(nn.Linear(before, outputs))
    return nn.Sequential(*layers)
