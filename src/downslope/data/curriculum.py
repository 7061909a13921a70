"""A curriculum: easy examples first, harder ones as training goes on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Sampler

from downslope.core.errors import DataError


class Curriculum(Sampler[int]):
    """The order of a curriculum, as the sampler of a DataLoader: epoch e draws from the easiest share.

    ::

        share(e) = min(1, start + (1 - start) e / epochs),  e = 0, 1, ...

    Each epoch has as many draws as there are examples: of a share s each of its examples about 1/s times, in
    random order, so that epochs with and without a curriculum take the same steps. From epoch `epochs` on
    each example comes once. `fit` measures on each example once, whatever the epoch, and a resumed run goes
    on at its share.

    Args:
        difficulty: A number for each example, larger is harder: the loss that another model has on it, the
            length of a sequence, the noise of a label; shape (n,), finite.
        epochs: After which all examples are in, in [1, inf).
        start: Share of the first epoch, in (0, 1].

    Raises:
        DataError: no numbers, one that is not finite, or a setting outside its domain.

    Source: Bengio, Louradour, Collobert and Weston 2009, "Curriculum learning"; the pacing is the linear one
    of Hacohen and Weinshall 2019.
    """

    def __init__(self, difficulty: Any, *, epochs: int, start: float = 0.3) -> None:
        numbers = torch.as_tensor(difficulty, dtype=torch.float64).flatten()
        if not len(numbers) or not bool(numbers.isfinite().all()):
            raise DataError(
                f"difficulty of {len(numbers)} numbers: must be a finite one an example, larger is harder"
            )
        if epochs < 1:
            raise DataError(f"epochs={epochs!r}: must be in [1, inf), after which all examples are in")
        if not 0 < start <= 1:
            raise DataError(f"start={start!r}: must be in (0, 1], the share of the first epoch")
        self.order = numbers.argsort(stable=True)
        self.epochs, self.start, self.at = epochs, start, 0
        self._whole = False

    def __len__(self) -> int:
        return len(self.order)

    def share(self, epoch: int) -> float:
        """Of the examples that are in, in (0, 1]."""
        return min(1.0, self.start + (1 - self.start) * epoch / self.epochs)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch, counted from 0; each pass goes on to the next by itself."""
        self.at = epoch

    @contextmanager
    def whole(self) -> Generator[None]:
        """A block in which a pass has each example once, in stored order."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False

    def __iter__(self) -> Iterator[int]:
        n = len(self.order)
        if self._whole:
            yield from range(n)
            return
        easy = self.order[: max(1, round(n * self.share(self.at)))]
        self.at += 1
        drawn: list[int] = []
        while len(drawn) < n:
            drawn += easy[torch.randperm(len(easy))].tolist()
        yield from drawn[:n]
