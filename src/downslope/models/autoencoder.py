"""The autoencoder: a narrow code from which the input is restored (Hinton and Salakhutdinov 2006)."""

from __future__ import annotations

from torch import Tensor, nn

from downslope.models.mlp import mlp
from downslope.models.parts import Norm, sizes


class Autoencoder(nn.Module):
    """``decoder(encoder(x))`` in the shape of x; its parts are `encoder` and `decoder`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) to the same."""
        out: Tensor = self.decoder(self.encoder(x))
        return out.reshape(x.shape)


def autoencoder(
    inputs: int,
    *,
    code: int = 8,
    width: int = 64,
    depth: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
    norm: Norm | None = None,
) -> nn.Module:
    """Two multilayer perceptrons, to a code of few numbers and back; train it on inputs alone (``train=X``).

    With `depth` 0 and `squared_error` its best code spans the first principal components (Baldi and Hornik
    1989). For inputs in [0, 1] `logistic` is an objective too, since the output has no activation.
    ``model.encoder`` is a feature extractor (n, ...) -> (n, code).

    Args:
        inputs: numbers an example, at least 1; more axes after the first are flattened and come back.
        code: numbers of the code, at least 1.
        width: units of a hidden layer, at least 1.
        depth: hidden layers on each side, at least 0.
        activation: a name such as "relu", "tanh".
        dropout: share of hidden units dropped in training, float in [0, 1).
        norm: "batch", "layer" or None.

    Returns:
        A module (n, ...) -> (n, ...), the same shape, without an activation at its end.

    Raises:
        ModelError: a size, share or name outside its domain.
    """
    sizes(code=code)
    encoder = mlp(inputs, code, width=width, depth=depth, activation=activation, dropout=dropout, norm=norm)
    decoder = mlp(code, inputs, width=width, depth=depth, activation=activation, dropout=dropout, norm=norm)
    return Autoencoder(encoder, decoder)
