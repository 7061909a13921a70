"""A small GPT: a causal transformer that tells the next token (Radford et al. 2019; nanoGPT's choices)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.models.attention import Block
from downslope.models.parts import dropout_of, sizes
from downslope.models.sequences import check_steps

STD = 0.02
"""Of the first weights, that of GPT-2's published code; maps back into the stream have
``STD / sqrt(2 depth)`` (Radford et al. 2019, 2.3), so that the sum over the blocks keeps its size.
"""


class GPT(nn.Module):
    """``head(norm(blocks(tokens + places)))``; its parts bear these names."""

    def __init__(
        self,
        vocabulary: int,
        steps: int,
        *,
        width: int,
        heads: int,
        depth: int,
        activation: str,
        dropout: float,
        bias: bool,
        tied: bool,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(steps, width)
        self.dropout = nn.Sequential(*dropout_of(dropout))
        self.blocks = nn.Sequential(
            *(
                Block(width, heads, dropout, causal=True, bias=bias, activation=activation, everywhere=True)
                for _ in range(depth)
            )
        )
        self.norm = nn.LayerNorm(width, bias=bias)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self._start(depth)
        if tied:
            self.head.weight = self.tokens.weight

    def _start(self, depth: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=STD)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        for block in cast("list[Block]", list(self.blocks)):
            for back in (block.attention.out, cast("nn.Linear", block.mlp[2])):
                nn.init.normal_(back.weight, std=STD / math.sqrt(2 * depth))

    def forward(self, x: Tensor) -> Tensor:
        """(n, steps) of tokens to (n, steps, vocabulary); step t is told from steps 0 to t.

        Raises:
            ModelError: more steps than there are places, or inputs that are no tokens.
        """
        check_steps(x, "gpt", tokens=True)
        steps = x.shape[1]
        if steps > self.steps:
            raise ModelError(f"{steps} steps: this gpt has places for {self.steps}; cut the sequences")
        stream = self.tokens(x.long()) + self.places(torch.arange(steps, device=x.device))
        out: Tensor = self.head(self.norm(self.blocks(self.dropout(stream))))
        return out

    @torch.no_grad()
    def generate(
        self,
        x: Tensor,
        count: int,
        *,
        temperature: float = 1.0,
        top: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """`x` and `count` tokens more, each drawn from what the last `steps` tokens say; in eval mode.

        Args:
            x: tokens, (n, steps), at least one step.
            count: tokens to add, at least 0.
            temperature: float in (0, inf), divides the logits; near 0 the likeliest token is taken.
            top: only the likeliest so many are drawn from; None allows all.
            generator: of the draws, on the device of `x`.

        Returns:
            Tokens, (n, steps + count).

        Raises:
            ModelError: a temperature or `top` outside its domain.
        """
        if not temperature > 0:
            raise ModelError(f"temperature={temperature}: must be positive, the logits are divided by it")
        if top is not None:
            sizes(top=top)
        training = self.training
        self.eval()
        try:
            for _ in range(count):
                logits = self(x[:, -self.steps :])[:, -1] / temperature
                if top is not None and top < logits.shape[1]:
                    least = logits.topk(top).values[:, -1:]
                    logits = logits.masked_fill(logits < least, -math.inf)
                x = torch.cat([x, torch.multinomial(logits.softmax(1), 1, generator=generator)], dim=1)
        finally:
            self.train(training)
        return x


def gpt(
    vocabulary: int,
    steps: int,
    *,
    width: int = 128,
    heads: int = 4,
    depth: int = 4,
    activation: str = "gelu",
    dropout: float = 0.0,
    bias: bool = False,
    tied: bool = True,
) -> nn.Module:
    """A decoder-only transformer with learnt places, norms first; train it with `cross_entropy`.

    With tied embeddings it has ``V w + S w + depth (12 w^2 + 2 w) + w`` parameters (V tokens, S steps, width
    w), and ``11 depth w + w`` more with biases; that is the count of GPT-2 (124 439 808 at V = 50 257,
    S = 1024, w = 768, 12 blocks, biases). Defaults are those of nanoGPT's recipe for a CPU.

    Args:
        vocabulary: different tokens, at least 1.
        steps: longest sequence, at least 1; not equal to `vocabulary`, for then `cross_entropy` cannot tell
            the classes' axis from the steps'.
        width: of a step inside the model, at least 1 and a multiple of `heads`.
        heads: of the attention, at least 1.
        depth: blocks, at least 1.
        activation: inside each block's MLP, a name such as "gelu", "relu".
        dropout: share dropped in training of the embeddings, of the attention's weights and behind each map
            back into the stream, float in [0, 1).
        bias: whether maps and norms have biases; GPT-2 has, nanoGPT trains without.
        tied: whether the last map is the table of embeddings (Press and Wolf 2017).

    Returns:
        A module (n, steps) of tokens -> (n, steps, vocabulary), without a softmax: the objective holds it.

    Raises:
        ModelError: a size or share outside its domain.
    """
    sizes(vocabulary=vocabulary, steps=steps, width=width, heads=heads, depth=depth)
    if width % heads:
        raise ModelError(f"width={width}: must be a multiple of heads={heads}, each has an equal part of it")
    return GPT(
        vocabulary, steps, width=width, heads=heads, depth=depth, activation=activation, dropout=dropout,
        bias=bias, tied=tied,
    )  # fmt: skip
