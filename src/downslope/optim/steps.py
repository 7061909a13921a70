"""One step of all buckets: it counts where it was made, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.optim.layout import Bucket
from downslope.optim.refusals import KindError
from downslope.optim.sums import take_sums

__all__ = ["called", "check_closure", "run"]


def called(closure: Callable[[], Any] | None) -> Any:
    """What a step's closure returns, called with gradients on; None without one.

    Raises:
        KindError: something that cannot be called.
    """
    if closure is None:
        return None
    check_closure(closure)
    with torch.enable_grad():
        return closure()


def check_closure(closure: Any) -> None:
    """Refuses what is no closure.

    Raises:
        KindError: something that cannot be called.
    """
    if not callable(closure):
        raise KindError(
            f"step({closure!r:.40}): must be a closure, a function that evaluates the loss, calls backward "
            "and returns it; where the gradients are there, call step()"
        )


def run(work: Sequence[tuple[Bucket, list[Tensor]]], refused: Callable[[], None]) -> None:
    """Steps the buckets with their gradients. What can be refused is refused before the first of them moves;
    of a bucket that fails later, as a rule's `update` may, or comes after it, no step counts.

    Args:
        work: buckets with their gradients.
        refused: called where nothing has moved.

    Raises:
        RecipeError: what a bucket refuses.
    """
    moving = False
    try:
        for bucket, _ in work:
            bucket.begin()
        adding = [each for each in work if each[0].chain.measuring]
        if adding:
            take_sums(adding)
        moving = True
        for bucket, grads in work:
            bucket.step(grads)
    except BaseException:
        for bucket, _ in work:
            bucket.undo()
        if not moving:
            refused()
        raise
