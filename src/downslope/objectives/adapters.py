"""Objectives put right from outside: shapes aligned, a sum made a mean, rare classes weighted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from downslope.objectives.objective import align, as_real


@dataclass(frozen=True)
class Aligned:
    """``objective(output, target)`` with ``(n, 1)`` and ``(n,)`` brought into one shape first.

    Args:
        objective: ``(output, target) -> scalar``.
    """

    in_code: ClassVar[str] = "lambda output, target: objective(output, target.reshape(output.shape))"
    """What to write where no file can hold the objective."""

    objective: Callable[[Any, Any], Tensor]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The objective's own value, of shapes that agree.

        Raises:
            ObjectiveError: the shapes differ by more than an axis of length 1.
        """
        return self.objective(*align(output, target, "aligned objective"))

    def __str__(self) -> str:
        return "the objective, target reshaped to the output"


@dataclass(frozen=True)
class Averaged:
    """``objective(output, target) / n``: a sum over n examples made their mean.

    Args:
        objective: ``(output, target) -> scalar``, a sum over the examples.
    """

    in_code: ClassVar[str] = "lambda output, target: objective(output, target) / len(output)"
    """What to write where no file can hold the objective."""

    objective: Callable[[Any, Any], Tensor]

    def __call__(self, output: Tensor, target: Any) -> Tensor:
        """The mean over the first axis of `output`."""
        return self.objective(output, target) / len(output)

    def __str__(self) -> str:
        return "the mean of the same objective over the examples"


@dataclass(frozen=True)
class Weighted:
    """Cross-entropy, or its form for one logit, with a weight for each class, or for the yes.

    Args:
        kind: "classes" (class scores and indices) or "yes" (one score, 0 and 1).
        weights: In (0, inf), one for each class, or that of the yes.
    """

    kind: Literal["classes", "yes"]
    weights: tuple[float, ...]

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """``sum_i w_{y_i} l_i / sum_i w_{y_i}``, as torch's weighted cross-entropy; of the yes a plain
        mean.
        """
        weights = output.new_tensor(self.weights)
        if self.kind == "yes":
            output, target = align(output, target, "weighted objective")
            real = as_real(target, output)
            return functional.binary_cross_entropy_with_logits(output, real, pos_weight=weights)
        return functional.cross_entropy(output, target.long(), weight=weights)

    @property
    def in_code(self) -> str:
        """The torch loss that is the same."""
        weights = ", ".join(f"{each:.6g}" for each in self.weights)
        if self.kind == "yes":
            return f"torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([{weights}]))"
        return f"torch.nn.CrossEntropyLoss(weight=torch.tensor([{weights}]))"

    def __str__(self) -> str:
        return "the same objective with every class weighted by 1 / its share"
