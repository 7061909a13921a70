"""A look at a problem's training data: all of it in memory, the first batches of a stream."""

from __future__ import annotations

import itertools
import weakref
from typing import Any

from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.sources import Memory, Stream

STREAMED = 100
"""Batches that stand for a stream."""

KEPT = 512 * 2**20
"""Bytes up to which they are kept: reading them may take long, and several parts look at them."""

_kept: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def sample(problem: Problem) -> Any:
    """The training data as one batch; of a stream its first `STREAMED` batches."""
    source = problem.train_source
    if isinstance(source, Memory):
        return source.batch
    ours = isinstance(source, Stream)
    if ours and source in _kept:
        return _kept[source]
    found = batches.join(list(itertools.islice(source.stored(64), STREAMED)))
    if ours and batches.size_of(found) <= KEPT:
        _kept[source] = found
    return found


def examples(problem: Problem, count: int, seed: int = 0) -> Any:
    """`count` examples drawn at random; of a stream or a DataLoader its first batch."""
    source = problem.train_source
    if not isinstance(source, Memory):
        return next(iter(source.epoch(count, seed, 0)))
    if count >= source.size:
        return source.batch
    return batches.take(source.batch, randomness.permutation(source.size, seed, 0)[:count].to(source.device))


def first_input(problem: Problem) -> Tensor:
    """The first tensor that the model is given.

    Raises:
        DataError: the batches hold none.
    """
    args, kwargs, _ = problem.splitter(sample(problem))
    found = batches.tensors((args, kwargs))
    if not found:
        raise DataError("the batches hold no input tensor")
    return found[0]


def target_of(problem: Problem) -> Tensor:
    """The target, where it is a single tensor.

    Raises:
        DataError: it is none, or several.
    """
    found = batches.tensors(problem.splitter(sample(problem))[2])
    if len(found) != 1:
        raise DataError("the batches hold no single target tensor")
    return found[0]
