"""Counts with which sign a named loss enters what somebody's own loop goes down on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor

from downslope.diagnosis.ear import Call
from downslope.diagnosis.losses import signed


class Signs:
    """Of the losses of one optimizer."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._steps = self._plus = self._minus = self._nil = 0

    def note(self, found: tuple[str, int] | None) -> None:
        """A loss: name and sign of the named loss in it; None of any other."""
        self._steps += 1
        if found is not None and self._name in (None, found[0]):
            self._name = found[0]
            self._plus += found[1] > 0
            self._minus += found[1] < 0
            self._nil += found[1] == 0

    def measured(self) -> dict[str, Any] | None:
        """The fact ``turned`` (`downslope.diagnosis.uphill`); None where no named loss was heard."""
        if self._name is None:
            return None
        counts = {"plus": self._plus, "minus": self._minus, "nil": self._nil}
        return {"name": self._name, "steps": self._steps} | counts


def sign(loss: Tensor) -> tuple[str, int] | None:
    """What `signed` finds, where the graph of `loss` is still to be had."""
    with suppress(Exception):  # a graph of any kind; nothing we look at may end anybody's training
        return signed(loss)
    return None


def entering(loss: Tensor, call: Call | None, calls: Sequence[Call], climbs: bool) -> tuple[str, int] | None:
    """Name and sign of the named loss in `loss`, whose backward pass has not run; None where it has none.

    Args:
        loss: What is differentiated.
        call: The call of a loss function that it comes from, where that is known.
        calls: Every call that was heard.
        climbs: Whether an optimizer goes up: then a sum of several is looked into too, and a plain loss.
    """
    if climbs:
        return sign(loss) or _leaning(loss, calls)
    return None if call is not None and call.value is loss else sign(loss)


def _leaning(loss: Tensor, calls: Sequence[Call]) -> tuple[str, int] | None:
    """The one sign of the derivatives of `loss` by all that it is made of, and the first one's name."""
    with suppress(Exception):
        made = [each for each in calls if each.value.grad_fn is not None]
        values = [each.value for each in made]
        given = torch.autograd.grad(loss, values, retain_graph=True, allow_unused=True)
        found = cast("Sequence[Tensor | None]", given)  # None of a call that the loss is not made of
        used = [(call, by) for call, by in zip(made, found, strict=True) if by is not None and bool(by.any())]
        for way in (1, -1):
            if used and all(bool((way * by >= 0).all()) for _, by in used):
                return str(used[0][0].function.__name__), way
    return None
