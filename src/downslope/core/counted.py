"""How much each part of some data weighs in a mean over what counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.class_targets import IGNORED
from downslope.core.outputs import takes_tensor


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
        each = self.entries(target)
        return float(size) if each is None else float(each.sum())

    def rows(self, target: Any, size: int) -> Tensor:
        """What counts in each of `size` examples; float64, shape (size,)."""
        each = self.entries(target)
        if each is None or len(each) != size:
            return torch.ones(size, dtype=torch.float64)
        return each.reshape(size, -1).sum(1).cpu()

    def entries(self, target: Any) -> Tensor | None:
        """What counts of each entry of a target of class indices, float64; None of any other target."""
        if not isinstance(target, Tensor) or target.is_floating_point() or target.dtype == torch.bool:
            return None
        if self.shifted and target.dim() > 1:
            target = target[:, 1:]
        counted = target != self.ignored
        inside = target[counted]
        if (
            self.weight is None
            or not bool((inside >= 0).all())
            or not bool((inside < len(self.weight)).all())
        ):
            return counted.double()
        classes = torch.where(counted, target, 0).long()
        return self.weight.to(target.device)[classes].double() * counted


def by_examples(targets: Sequence[Any], sizes: Sequence[int]) -> list[float]:
    """The weight of each part by its examples alone."""
    del targets
    return [size / sum(sizes) for size in sizes]


def unstated(function: Any) -> bool:
    """Whether an objective is code of one's own, which does not say whether it is a mean or a sum."""
    return function is not None and not hasattr(function, "reduction") and not takes_tensor(function)


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
