"""Windows over a sequence of tokens, each with the tokens that follow: the data of a language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.core.errors import DataError

LOGITS = 2**22
"""Numbers that a model may give for one batch of an evaluation: 16 MiB in float32."""

Window = tuple[Tensor, Tensor]


class Windows:
    """Windows of `block` tokens; the target of each token is the one that follows it.

    In training the windows of an epoch lie side by side from a random phase on, in random order: each token
    is used once an epoch but for fewer than ``2 * block`` at the two ends, and from epoch to epoch windows
    begin elsewhere. In stored order they begin at 0 and also lie side by side; the last ``(n - 1) % block``
    tokens are left out. Differs from nanoGPT, which draws every window by itself, so that a third of the text
    is not seen in an epoch. Tokens are held once, windows are gathered batch by batch.

    Args:
        tokens: shape (n,), whole numbers in [0, vocabulary); kept in a byte each where that is enough.
        block: tokens of a window, at least 1 and below n.
        vocabulary: number of different tokens, at least 1.
        reading: how a text becomes tokens, in plain values.

    Raises:
        DataError: the tokens do not fill one window.
    """

    def __init__(
        self, tokens: Tensor, block: int, vocabulary: int, reading: Mapping[str, Any] | None = None
    ) -> None:
        if not 1 <= block < len(tokens):
            raise DataError(
                f"block={block}: must lie in [1, {len(tokens) - 1}], a window and the token after it have to "
                f"fit into the {len(tokens)} tokens"
            )
        self.tokens = tokens.to(torch.uint8 if vocabulary <= 256 else torch.int32)
        self.block, self.vocabulary, self.reading = block, vocabulary, reading
        self.size: int = max(1, (len(tokens) - block) // block)
        self._windows = self.tokens.unfold(0, block + 1, 1)

    def steps(self, batch_size: int) -> int:
        """Batches in one epoch; the last may be smaller."""
        return -(-self.size // batch_size)

    def epoch(self, batch_size: int, seed: int, epoch: int) -> Iterator[Window]:
        """One pass from this epoch's phase on, in its order."""
        phases = min(self.block, len(self.tokens) - self.size * self.block)
        draw = randomness.generator(seed, "order", epoch, 1)
        phase = int(torch.randint(phases, (), generator=draw))
        order = randomness.permutation(self.size, seed, epoch)
        yield from self._batches(order * self.block + phase, batch_size)

    def stored(self, batch_size: int) -> Iterator[Window]:
        """One pass in stored order, in batches small enough for the outputs of a large vocabulary."""
        starts = torch.arange((len(self.tokens) - 1) // self.block) * self.block
        fitting = max(1, LOGITS // (self.block * self.vocabulary))
        yield from self._batches(starts, min(batch_size, fitting))

    def _batches(self, starts: Tensor, batch_size: int) -> Iterator[Window]:
        for some in starts.split(batch_size):
            window = self._windows[some]
            yield window[:, :-1].long(), window[:, 1:].long()
