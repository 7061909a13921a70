"""Data that does not tell its length, and may have no end: what stands for it, what is said of it."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from downslope.core.sources import Source

_log = logging.getLogger("downslope")

MOST_STREAMED = 200
"""Batches that stand for a stream whose length is not known, in every evaluation."""

LONG_EPOCH = 10_000
"""Batches after which a first epoch is said to be long: it may never end."""

STREAMED_EPOCH = 1000
"""Batches between evaluations within an epoch whose length is not known; goal and patience count by them."""

_told: weakref.WeakSet[Any] = weakref.WeakSet()
"""Streams of which it was said that their first batches stand for them."""


def tell_cut(source: Source, examples: int) -> None:
    """Say that an evaluation looked at the first batches only; once for each source."""
    if source not in _told:
        _told.add(source)
        _log.warning(
            "the data tells no length: its first %d batches (%d examples) stand for it in evaluation",
            MOST_STREAMED, examples,
        )  # fmt: skip


def tell_long(total: int | None, epoch: int, batches: int) -> None:
    """Say once that the first epoch of data without a length goes on and on."""
    if total is None and not epoch and batches == LONG_EPOCH:
        _log.warning(
            "epoch 1 has not ended after %d batches: the data does not tell its length and may have no end; "
            "steps= bounds the run, Ctrl-C ends and keeps it", LONG_EPOCH,
        )  # fmt: skip
