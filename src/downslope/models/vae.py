"""The variational autoencoder (Kingma and Welling 2014)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from downslope.models.mlp import mlp
from downslope.models.parts import Norm, sizes


class Restored(NamedTuple):
    """What a variational autoencoder gives, and the objective `elbo` takes."""

    reconstruction: Tensor
    """Logits, or means, of the inputs, in their shape."""
    mean: Tensor
    """Of the code's distribution, shape (n, code)."""
    log_variance: Tensor
    """``log sigma^2`` of the code's distribution, shape (n, code)."""


class VAE(nn.Module):
    """``decoder(z)``, z drawn from N(mean, sigma^2), both from `encoder`."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, code: int, draw: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.code, self.draw = encoder, decoder, code, draw

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the code, both (n, code)."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, log_variance

    def forward(self, x: Tensor) -> Restored:
        """(n, ...) to the reconstruction in the same shape, mean and log-variance (n, code)."""
        mean, log_variance = self.encode(x)
        z = mean
        if self.training or self.draw:
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return Restored(self.decoder(z).reshape(x.shape), mean, log_variance)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Decoded draws from N(0, 1), shape (count, inputs): logits, or means."""
        like = next(self.decoder.parameters())
        z = torch.randn(count, self.code, generator=generator).to(like)
        out: Tensor = self.decoder(z)
        return out


def vae(
    inputs: int,
    *,
    code: int = 8,
    width: int = 64,
    depth: int = 1,
    activation: str = "relu",
    dropout: float = 0.0,
    norm: Norm | None = None,
    draw: bool = False,
) -> nn.Module:
    """An autoencoder whose code is drawn, ``z = mean + sigma eps``; train it with `elbo` on inputs alone.

    Args:
        inputs: numbers an example, at least 1; more axes after the first are flattened and come back.
        code: numbers of the code, at least 1.
        width: units of a hidden layer, at least 1.
        depth: hidden layers on each side, at least 0.
        activation: a name such as "relu", "tanh".
        dropout: share of hidden units dropped in training, float in [0, 1).
        norm: "batch", "layer" or None.
        draw: whether the code is drawn in eval mode too, which estimates the bound without bias; by default
            the mean is taken there, so that an input has one answer.

    Returns:
        A module (n, ...) -> `Restored`: the reconstruction (n, ...) without an activation at its end, mean
        and log-variance of the code. ``model.encode(x)``, ``model.sample(count)``.

    Raises:
        ModelError: a size, share or name outside its domain.
    """
    sizes(code=code)
    shape = {"width": width, "depth": depth}
    encoder = mlp(inputs, 2 * code, activation=activation, dropout=dropout, norm=norm, **shape)
    decoder = mlp(code, inputs, activation=activation, dropout=dropout, norm=norm, **shape)
    return VAE(encoder, decoder, code, draw)
