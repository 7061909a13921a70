"""Data that does not tell its length, and may have no end: what stands for it, what is said of it."""

from __future__ import annotations

import logging
import math
import weakref
from typing import Any

from downslope.core.sources import MOST_STREAMED, Source

_log = logging.getLogger("downslope")

LONG_EPOCH = 10_000
"""Batches after which a first epoch is said to be long: it may never end. A run that has a limit of time ends
there. Convention: at 500 steps a second, 20 s.
"""

LONGEST_EPOCH = 1_000_000
"""Batches of a first epoch after which any run ends, as one that is done: no verb goes on for ever."""

STREAMED_EPOCH = 1000
"""Batches between evaluations within an epoch whose length is not known; goal and patience count by them."""

_told: weakref.WeakSet[Any] = weakref.WeakSet()
"""Streams of which it was said that their first batches stand for them."""

_opened: weakref.WeakSet[Any] = weakref.WeakSet()
"""Streams of which it was said, before a run in epochs, that they tell no length."""


def tell_cut(source: Source, examples: int) -> None:
    """Say that an evaluation looked at the first batches only; once for each source."""
    if source not in _told:
        _told.add(source)
        _log.warning(
            "the data tells no length: its first %d batches (%d examples) stand for it in evaluation",
            MOST_STREAMED, examples,
        )  # fmt: skip


def tell_open(source: Source, total: int | None, epochs: int) -> None:
    """Say before a run in epochs that the data tells no length, and what bounds the run; once a source."""
    if total is None and source not in _opened:
        _opened.add(source)
        _log.warning(
            "the training data tells no length: each of the epochs=%d lasts until the data ends; if it never "
            "does, give steps=... in place of epochs", epochs,
        )  # fmt: skip


def endless(total: int | None, epoch: int, batches: int, seconds: float = math.inf) -> bool:
    """Whether the first pass of data without a length went on so long that the run has to end.

    Args:
        total: Steps of the run; None where they cannot be known.
        epoch: Passes that are done.
        batches: Taken out of this pass.
        seconds: Longest time of the run; infinite for none, and then a long epoch is only spoken of first.
    """
    if total is not None or epoch or batches < LONG_EPOCH:
        return False
    if math.isfinite(seconds):
        return True
    if batches == LONG_EPOCH:
        _log.warning(
            "epoch 1 has not ended after %d batches: the data does not tell its length and may have no end; "
            "steps= bounds the run, Ctrl-C ends and keeps it", LONG_EPOCH,
        )  # fmt: skip
    if batches == LONGEST_EPOCH:
        _log.warning(
            "epoch 1 has not ended after %d batches: the run ends here and is kept; steps= says how long it "
            "is to be", LONGEST_EPOCH,
        )  # fmt: skip
    return batches >= LONGEST_EPOCH
