"""Counts with which sign a named loss enters what somebody's own loop goes down on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from torch import Tensor

from downslope.diagnosis.losses import signed


class Signs:
    """Of the losses of one optimizer."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._steps = self._minus = self._nil = 0

    def note(self, found: tuple[str, int] | None) -> None:
        """A loss: name and sign of the named loss in it; None of any other."""
        self._steps += 1
        if found is not None and found[1] <= 0 and self._name in (None, found[0]):
            self._name = found[0]
            self._minus += found[1] < 0
            self._nil += found[1] == 0

    def measured(self) -> dict[str, Any] | None:
        """The fact ``turned`` (`downslope.diagnosis.uphill`); None where no loss was turned round."""
        if self._name is None:
            return None
        return {"name": self._name, "steps": self._steps, "minus": self._minus, "nil": self._nil}


def sign(loss: Tensor) -> tuple[str, int] | None:
    """What `signed` finds, where the graph of `loss` is still to be had."""
    with suppress(Exception):  # a graph of any kind; nothing we look at may end anybody's training
        return signed(loss)
    return None
