"""A small transformer encoder over sequences (Vaswani et al. 2017), norms first (Xiong et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core.errors import ModelError
from downslope.models.parts import activation_of, dropout_of, sizes
from downslope.models.sequences import check_steps


class Attention(nn.Module):
    """``softmax(Q K^T / sqrt(d)) V`` in `heads` heads of width d, then a map; every step sees every step, or
    with `causal` itself and those before it.
    """

    def __init__(
        self, width: int, heads: int, *, causal: bool = False, bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads, self.causal, self.share = heads, causal, dropout
        self.into = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, width) to the same."""
        n, steps, width = x.shape
        parts = self.into(x).view(n, steps, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        share = self.share if self.training else 0.0
        seen = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=share, is_causal=self.causal
        )
        out: Tensor = self.out(seen.transpose(1, 2).reshape(n, steps, width))
        return out


class Block(nn.Module):
    """``x + attention(norm(x))``, then ``x + mlp(norm(x))``; the MLP is four times as wide.

    With `everywhere` dropout acts in the attention too (on its weights and behind its map), as in GPT-2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        causal: bool = False,
        bias: bool = True,
        activation: str = "gelu",
        everywhere: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        inside = dropout if everywhere else 0.0
        self.attention = Attention(width, heads, causal=causal, bias=bias, dropout=inside)
        self.dropout = nn.Sequential(*dropout_of(inside))
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=bias),
            activation_of(activation),
            nn.Linear(4 * width, width, bias=bias),
            *dropout_of(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, width) to the same."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Transformer(nn.Module):
    """``head(norm(mean over steps))`` of embedded steps plus sinusoidal positions, after `depth` blocks."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        heads: int,
        depth: int,
        activation: str,
        dropout: float,
        tokens: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(inputs, width) if tokens else nn.Linear(inputs, width)
        self.inputs, self.tokens = inputs, tokens
        self.blocks = nn.Sequential(
            *(Block(width, heads, dropout, activation=activation) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps, inputs), or (n, steps) of tokens, to (n, outputs).

        Raises:
            ModelError: inputs of another form.
        """
        check_steps(x, "transformer", inputs=self.inputs, tokens=self.tokens)
        embedded: Tensor = self.embedding(x.long() if self.tokens else x)
        embedded = embedded + positions(embedded.shape[1], embedded.shape[2]).to(embedded)
        out: Tensor = self.head(self.norm(self.blocks(embedded).mean(1)))
        return out


def positions(steps: int, width: int) -> Tensor:
    """``sin(t / 10000^(2i/width))`` in the even columns, the cosine in the odd ones (Vaswani et al., 3.5).

    Args:
        steps: rows, at least 1.
        width: columns, even.

    Returns:
        A tensor (steps, width).
    """
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(steps).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def transformer(
    inputs: int,
    outputs: int,
    *,
    width: int = 32,
    heads: int = 4,
    depth: int = 2,
    activation: str = "gelu",
    dropout: float = 0.0,
    tokens: bool = False,
) -> nn.Module:
    """A transformer encoder whose mean over the steps is read out; no step is masked.

    Args:
        inputs: numbers a step, at least 1; with `tokens` the number of different tokens.
        outputs: number of outputs, at least 1.
        width: of a step inside the model, at least 2, even and a multiple of `heads`.
        heads: of the attention, at least 1.
        depth: blocks, at least 1.
        activation: inside each block's MLP, a name such as "gelu", "relu".
        dropout: share dropped at the end of each block's MLP in training, float in [0, 1).
        tokens: whether the sequences are of whole numbers, (n, steps), which are embedded in `width`.

    Returns:
        A module (n, steps, inputs) -> (n, outputs), without an activation at its end.

    Raises:
        ModelError: a size or share outside its domain.
    """
    sizes(inputs=inputs, outputs=outputs, width=width, heads=heads, depth=depth)
    if width % heads or width % 2:
        raise ModelError(
            f"width={width}: must be even (positions are pairs) and a multiple of heads={heads}; 32 and 4 fit"
        )
    return Transformer(
        inputs, outputs, width=width, heads=heads, depth=depth, activation=activation, dropout=dropout,
        tokens=tokens,
    )  # fmt: skip
