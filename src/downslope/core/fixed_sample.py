"""A fixed sample of a problem's examples, on the CPU and in the model's precision."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from downslope.core import batches, randomness
from downslope.core.problem import Problem
from downslope.core.sources import Memory, Source

PROBED = 512
"""Examples for measurements at the start: the standard error of a mean is then 4 % of the deviation."""

SCORED = 4096
"""Examples on which a loss is scored: its standard error is then 1.6 % of the deviation."""


def sample(source: Source, count: int, dtype: torch.dtype | None = torch.float32) -> Any:
    """At most `count` examples of `source` as one batch, the same at every call.

    Args:
        source: Data in memory is drawn from with a fixed seed; a stream gives its first batches.
        count: Examples.
        dtype: Floating tensors are cast to it; None leaves them.

    Returns:
        A batch on the CPU.
    """
    if isinstance(source, Memory):
        found = drawn(source, source.batch, count)
    else:
        some: list[Any] = []
        held = 0
        for batch in source.stored(64):
            some.append(batch)
            held += batches.length(batch)
            if held >= count:
                break
        found = batches.join(some)
    return batches.to(found, torch.device("cpu"), dtype)


def drawn(source: Memory, tree: Any, count: int) -> Any:
    """At most `count` rows of `tree`, a part of what `source` holds; the same rows of every part."""
    if source.size <= count:
        return tree
    order = randomness.permutation(source.size, 0, 0)[:count].sort().values
    return batches.take(tree, order.to(source.device))


class Held(NamedTuple):
    """The samples on which runs are compared."""

    train: Memory
    """Training examples."""
    valid: Memory | None
    """Validation examples, where there are any."""
    rows: int | None = None
    """Examples a batch where the objective is a sum over the batch; None where it is a mean."""


def scored(problem: Problem, count: int = SCORED, rows: int | None = None) -> Held:
    """The samples of the training and the validation part on which runs are compared."""
    train = Memory(sample(problem.train_source, count, None))
    valid = problem.valid_source
    return Held(train, None if valid is None else Memory(sample(valid, count, None)), rows)


def precision(model: torch.nn.Module) -> torch.dtype:
    """The floating type of the model's parameters."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
