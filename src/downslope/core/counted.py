"""How much each part of some data weighs in a mean over what counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.class_targets import IGNORED


class Counted:
    """Weights in proportion to what counts: the targets that are not masked, by the weight of their class.

    Args:
        ignored: Index of a masked target.
        weight: Weights of the classes; None for equal ones.
        shifted: Whether the first target of each row is not predicted (a language model's own loss).
    """

    def __init__(self, ignored: int, weight: Tensor | None, *, shifted: bool = False) -> None:
        self.ignored, self.weight, self.shifted = ignored, weight, shifted

    def __call__(self, targets: Sequence[Any], sizes: Sequence[int]) -> list[float]:
        """The weight of each part; they sum to one."""
        counts = [self.count(target, size) for target, size in zip(targets, sizes, strict=True)]
        total = sum(counts)
        return [each / total for each in counts] if total else by_examples(targets, sizes)

    def count(self, target: Any, size: int) -> float:
        """What counts in one part of `size` examples."""
        if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
            return float(size)
        if self.shifted and target.dim() > 1:
            target = target[:, 1:]
        counted = target[target != self.ignored]
        if (
            self.weight is not None
            and bool((counted >= 0).all())
            and bool((counted < len(self.weight)).all())
        ):
            return float(self.weight.to(counted.device)[counted.long()].double().sum())
        return float(counted.numel())


def by_examples(targets: Sequence[Any], sizes: Sequence[int]) -> list[float]:
    """The weight of each part by its examples alone."""
    del targets
    return [size / sum(sizes) for size in sizes]


def counts(function: Any) -> Counted | None:
    """What an objective counts in each part; None for one that is no mean, or that a model computes itself.

    Args:
        function: As the problem has it.
    """
    if function is None or getattr(function, "reduction", None) == "sum":
        return None
    over_examples = isinstance(function, nn.MultiMarginLoss)  # torch divides by their number all the same
    weight = None if over_examples else getattr(function, "weight", None)
    return Counted(getattr(function, "ignore_index", IGNORED), weight)
