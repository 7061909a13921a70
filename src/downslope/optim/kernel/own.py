"""Kernels that a rule brings along, where a loop made of its operators cannot be its step."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from downslope.optim.rule import Chain, Scalars

__all__ = ["Own", "Step", "own_of"]


class Step(Protocol):
    """What steps the tensors of one bucket by a kernel."""

    def fits(self, params: list[Tensor], columns: Sequence[list[Tensor]]) -> bool:
        """Whether parameters and states look as they did when this was made."""
        ...

    def update(self, params: list[Tensor], grads: list[Tensor], ks: Sequence[Scalars]) -> None:
        """One step in place."""
        ...

    def measure(self, link: int, grads: list[Tensor], ks: Sequence[Scalars]) -> list[Tensor]:
        """For each total that a link wants, a float64 tensor with an entry for each parameter."""
        ...


@dataclass(frozen=True)
class Own:
    """A rule's own step: ``place`` is ``module:attribute`` of (params, columns, maximize) -> `Step`."""

    place: str
    says: str
    """What it is, in the plan."""

    def obstacle(self, p: Tensor) -> str | None:
        """Why it cannot step `p`, beyond what no kernel can."""
        return None if p.is_contiguous() else "its loops read rows, and the weights are not contiguous"

    def stands(self, chain: Chain) -> bool:
        """Whether what was made for an active chain serves `chain`, in which no more than numbers differ."""
        return True

    def step(self, params: list[Tensor], columns: Sequence[list[Tensor]], *, maximize: bool) -> Step:
        """The step, for tensors of one dtype."""
        module, _, name = self.place.partition(":")
        made: Any = getattr(importlib.import_module(module), name)
        return made(params, columns, maximize=maximize)


def own_of(chain: Chain) -> Own | None:
    """The kernels that an active `chain` brings along: those of its only link."""
    return chain.links[0].kernel if len(chain.links) == 1 else None
