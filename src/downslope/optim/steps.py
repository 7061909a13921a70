"""One step of all buckets: it counts where it was made, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from downslope.optim.layout import Bucket
from downslope.optim.sums import take_sums

__all__ = ["run"]


def run(work: Sequence[tuple[Bucket, list[Tensor]]]) -> None:
    """Steps the buckets with their gradients; of a bucket that refuses, or comes after it, no step counts.

    Raises:
        RecipeError: what a bucket refuses.
    """
    try:
        for bucket, _ in work:
            bucket.begin()
        adding = [each for each in work if each[0].chain.measuring]
        if adding:
            take_sums(adding)
        for bucket, grads in work:
            bucket.step(grads)
    except Exception:
        for bucket, _ in work:
            bucket.undo()
        raise
