"""The loss of every step as one number, where gradients are accumulated over several backward passes too.

    for x, y in parts:                              # k backward passes, one step
        (objective(model(x), y) / k).backward()
    optimizer.step()

Passes whose losses were multiplied by shares that add up to 1 go down on one mean: its value is the sum of
what was passed back, ``sum_i c_i l_i``, over parts that may be unequal. What was not shared out so is
averaged, each loss as one. Once a loop was seen to share out, a step that lacks a part (the last one of an
epoch) is told on the same scale.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from torch import Tensor

from downslope.diagnosis.ear import Call
from downslope.diagnosis.nodes import unscaled

WHOLE = 1e-3
"""What shares may add up to beside 1, as of numbers of examples that were rounded. Convention."""


class Part(NamedTuple):
    """The loss of one backward pass."""

    value: float | Tensor
    share: float = 1.0
    """The number by which it was multiplied last, before the pass."""
    bare: bool = True
    """Whether `value` is the loss before that."""

    @property
    def own(self) -> float | Tensor:
        """The loss before it was multiplied."""
        return self.value if self.bare else self.value / self.share


Passed = tuple[float | Tensor, Call | Literal[True] | None, Part]
"""A loss that was passed back, the call that gave it, and by what it was multiplied."""

ALONE = Part(math.nan)
"""Of a loss that is passed back as it is."""


class Heard:
    """Losses on their way into the history, one row a step.

    Attributes:
        rows: Step, loss and learning rate.
        shared: Whether the loop shares out its steps.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[int, float | Tensor, float]] = []
        self.shared = False
        self._parts: list[Part] = []

    def has(self, step: int) -> bool:
        """Whether the latest row is of this step."""
        return bool(self.rows) and self.rows[-1][0] == step

    def add(self, step: int, part: Part, rate: float) -> None:
        """A loss of `step`, in a row of its own or with those that are there."""
        if not self.has(step):
            self._parts = [part]
            self.rows.append((step, self._joined(), rate))
            return
        self._parts.append(part)
        self.rows[-1] = (step, self._joined(), self.rows[-1][2])

    def rated(self, step: int, rate: float) -> None:
        """The rate that `step` took."""
        if self.has(step):
            self.rows[-1] = (*self.rows[-1][:2], rate)

    def take(self) -> list[tuple[int, float | Tensor, float]]:
        """All rows, which are none of its own any more."""
        rows, self.rows = self.rows, []
        return rows

    def _joined(self) -> Any:
        """The loss of the step so far; one that is not finite counts for nothing beside others that are."""
        parts = self._parts
        if len(parts) == 1 and not self.shared:
            return parts[0].value
        sound = [each for each in parts if isinstance(each.value, Tensor) or math.isfinite(each.value)]
        total = sum(each.share for each in parts)
        between = all(0 < each.share < 1 for each in parts)
        self.shared = self.shared or (len(parts) > 1 and between and abs(total - 1) <= WHOLE)
        if not sound:
            return parts[0].value
        if not (self.shared and between):
            return _mean([(each.value, 1.0) for each in sound])
        return _mean([(each.own, each.share) for each in sound])


def _mean(of: list[tuple[Any, float]]) -> Any:
    """The weighted mean of values."""
    return sum(value * weight for value, weight in of) / sum(weight for _, weight in of)


def begun(losses: list[Passed], closure: bool, twice: bool) -> list[Passed]:
    """Those of the weights from which a step began.

    Args:
        losses: Of its backward passes.
        closure: Whether they are those of a closure, which is called several times: its first is meant.
        twice: Whether half of them are of the weights that SAM climbed to.
    """
    if closure:
        return losses[:1]
    return losses[: len(losses) // 2] if twice and len(losses) % 2 == 0 else losses


def share(loss: Tensor, value: Tensor | None = None) -> float:
    """The number by which `loss` was multiplied last; 1 where it is `value`, or no number is seen.

    Args:
        loss: Whose graph is there.
        value: A loss that it may be itself; without a graph, one that it is a multiple of.
    """
    if loss is value or loss.grad_fn is None:
        return 1.0
    try:
        known = value is not None and value.grad_fn is None and bool(value)
        found = loss.item() / float(value) if known and value is not None else unscaled(loss)[1]
    except Exception:  # noqa: BLE001 (a graph of any kind, or one that is freed)
        return 1.0
    return found if math.isfinite(found) else 1.0
