"""Objectives of the user's own put right from outside: shapes aligned, a sum made a mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from downslope.objectives.objective import align


@dataclass(frozen=True)
class Aligned:
    """``objective(output, target)`` with ``(n, 1)`` and ``(n,)`` brought into one shape first.

    Args:
        objective: ``(output, target) -> scalar``.
    """

    objective: Callable[[Any, Any], Tensor]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The objective's own value, of shapes that agree.

        Raises:
            ObjectiveError: the shapes differ by more than an axis of length 1.
        """
        return self.objective(*align(output, target, "aligned objective"))

    def __str__(self) -> str:
        return "the same objective on output and target of one shape"


@dataclass(frozen=True)
class Averaged:
    """``objective(output, target) / n``: a sum over n examples made their mean.

    Args:
        objective: ``(output, target) -> scalar``, a sum over the examples.
    """

    objective: Callable[[Any, Any], Tensor]

    def __call__(self, output: Tensor, target: Any) -> Tensor:
        """The mean over the first axis of `output`."""
        return self.objective(output, target) / len(output)

    def __str__(self) -> str:
        return "the mean of the same objective over the examples"
