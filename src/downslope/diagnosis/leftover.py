"""Whether the gradient of one step is still there when the next one's is added to it.

Asked of two small parameters now and then, between one step and the next, by hooks that write nothing: at
every backward pass that reaches a parameter, what is its `.grad` just before the new gradient is added? There
is none, or zeros, where it was cleared. Only what equals the gradient of the former step to the last bit
counts as kept, so that a momentum written by hand is none; and a gradient cleared at any pass before the next
step counts as cleared, so that what the generator's pass leaves in a discriminator is none either.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from typing import Any, cast
from weakref import finalize, ref

import torch
from torch import Tensor

from downslope.diagnosis.between import bared, hooked, removed
from downslope.diagnosis.hand import Hand
from downslope.diagnosis.passes import Passes
from downslope.diagnosis.settings import parameters_of

TRIED = 8
"""Parameters of each half of the model that are tried, smallest first, until one has a gradient."""

APART = 1.3
"""Step of a look in that of the one before it: 50 looks, of some 40 microseconds each, in a million steps."""


class Leftover:
    """What the steps of one optimizer found in the gradients at their beginning.

    Attributes:
        seen: Steps that were looked at, of which it is known.
        kept: Those of them whose gradient had that of the step before in it.
        next: The step after which `turn` is to be called.
    """

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.kept: list[int] = []
        self.next: float = 1
        self.unused: list[tuple[int, float]] = []
        self._asked: list[_Asked] = []
        self._passes: Passes | None = None
        self._of: Tensor | None = None

    def turn(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """After `step`, which is not before `next`: look at what was heard, or begin to hear."""
        if self._asked:
            self._heard(step)
            self.next = step if step < 3 else math.ceil(APART * step)
        elif isinstance(optimizer, Hand) and optimizer.cleared():  # seen only when the next pass begins
            self.seen.append(step)
            self.next = step + 1 if step < 3 else math.ceil(APART * step)
        else:
            self._listen(optimizer)
            self.next = step + 1

    def _listen(self, optimizer: torch.optim.Optimizer) -> None:
        held = [p for p in parameters_of(optimizer) if p.is_leaf and p.requires_grad]
        middle = (len(held) + 1) // 2
        for half in (held[:middle], held[middle:]):
            found = next(_nonzero(half), None)
            if found is not None:
                self._asked.append(_Asked(found))
                if self._passes is None and found.numel() > 1:
                    self._of, self._passes = found, Passes(found, {id(p) for p in held})

    def _heard(self, step: int) -> None:
        found = [each.verdict for each in self._asked]
        if True in found:
            self.kept.append(step)
        if True in found or False in found:
            self.seen.append(step)
        if self._passes is not None and self._of is not None and self._passes.count:
            share = self._passes.share(self._of)
            if share is not None:
                self.unused.append((self._passes.count, share))
        self.drop()

    def drop(self) -> None:
        """Listen no more."""
        hooked_ones = [each.parameter for each in self._asked]
        while self._asked:
            self._asked.pop().drop()
        if self._passes is not None:
            self._passes.drop()
        self._passes = self._of = None
        for held in hooked_ones:
            if (parameter := held()) is not None:
                bared(parameter)

    def measured(self) -> dict[str, Any] | None:
        """``seen`` and ``kept``, how many steps; ``first`` kept one; ``late``, the share of them in the later
        half of what was seen. None where nothing is known.
        """
        if not self.seen:
            return None
        later = self.seen[len(self.seen) // 2 :]
        return {
            "seen": len(self.seen),
            "kept": len(self.kept),
            "first": self.kept[0] if self.kept else None,
            "late": sum(each in self.kept for each in later) / len(later),
        }

    def wasted(self) -> dict[str, Any] | None:
        """``seen``, steps that were looked at; ``passes``, backward passes for one of them; ``share``, that
        of the passes whose gradient no step used, both medians over the later half. None where that is not
        known.
        """
        later = self.unused[len(self.unused) // 2 :]
        if not later:
            return None
        passes, shares = zip(*later, strict=True)
        return {
            "seen": len(self.unused),
            "passes": statistics.median(passes),
            "share": statistics.median(shares),
        }


class _Asked:
    """One parameter between two steps."""

    def __init__(self, parameter: Tensor) -> None:
        self._before = cast("Tensor", parameter.grad).detach().clone()
        self._state: bool | None = None
        self.verdict: bool | None = None
        """True: kept; False: cleared; None: not known, or something else."""
        self.parameter = ref(parameter)
        handles = hooked(parameter, self)
        self._end = finalize(self, removed, handles)

    def arriving(self, parameter: Tensor) -> None:
        """A new gradient is about to be added, or only asked for."""
        found = parameter.grad
        if found is None or found.layout is not self._before.layout:
            self._state = False if found is None else None
        elif torch.equal(found, self._before):
            self._state = True
        else:
            self._state = None if bool(found.any()) else False

    def added(self, parameter: Tensor) -> None:
        """It was added."""
        del parameter
        if self._state is False or self.verdict is None:
            self.verdict = self._state

    def drop(self) -> None:
        self._end()


def _nonzero(parameters: list[Tensor]) -> Iterator[Tensor]:
    """The smallest parameters whose gradient is there and not zero."""
    there = [p for p in parameters if p.grad is not None and p.grad.layout is torch.strided]
    for each in sorted(there, key=Tensor.numel)[:TRIED]:
        if bool(cast("Tensor", each.grad).any()):
            yield each
