"""What a sampler is: it is told the trials so far and asked for the next ones, in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from downslope.core.space import Space


class Seen(Protocol):
    """What a sampler reads of a trial; `downslope.tuning.trials.Trial` is one."""

    @property
    def number(self) -> int:
        """Place in the search, from 0."""
        ...

    @property
    def values(self) -> Mapping[str, Any]:
        """Key to value."""
        ...

    @property
    def state(self) -> str:
        """As `downslope.tuning.trials.State`: "running", "done", "pruned", "failed" and others."""
        ...

    @property
    def value(self) -> float | None:
        """What it reached; None before the end, of one that failed, and of one pruned that diverged."""
        ...

    @property
    def retry_of(self) -> int | None:
        """The trial that this one repeats."""
        ...


class Sampler(ABC):
    """Chooses what is tried next.

    Args:
        space: Key to dimension.
        seed: Of its draws, in [0, 2**63).
        direction: Which way values are better.
        trials: How many there will be, where that is known; a grid is laid out for them.
    """

    name: ClassVar[str]
    models: ClassVar[bool] = False
    """Whether it learns from the values; else batches are drawn without looking at them."""

    def __init__(
        self,
        space: Space,
        *,
        seed: int = 0,
        direction: Literal["min", "max"] = "min",
        trials: int | None = None,
    ) -> None:
        self.space, self.seed, self.direction, self.trials = dict(space), seed, direction, trials
        self.repeats = False
        """Whether points of a finite space may come again, as members of a population may begin alike."""

    @abstractmethod
    def ask(self, seen: Sequence[Seen], n: int) -> list[dict[str, Any]]:
        """Up to `n` sets of values that have not been tried; fewer where there are no more.

        Args:
            seen: Every trial so far, running ones too.
            n: At most so many, from 1.
        """


def drawn(seen: Sequence[Seen]) -> int:
    """How many sets of values were drawn so far: a trial that is repeated was drawn once."""
    return sum(each.retry_of is None for each in seen)
