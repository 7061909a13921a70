"""Penalties of all members, each at its own strength."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor, nn

from downslope.objectives.penalised import Penalised
from downslope.objectives.penalties import Penalty

__all__ = ["Strengths", "kinds"]


def kinds(objective: Any) -> tuple[Hashable, ...]:
    """What the penalties of an objective have in common with others that differ in their strengths only."""
    return tuple(repr(each) for each in _units(objective))


def _units(objective: Any) -> list[Penalty]:
    """The penalties of an objective, each at strength 1."""
    terms = objective.terms if isinstance(objective, Penalised) else ()
    return [dataclasses.replace(each, strength=1.0) for each in terms]


class Strengths:
    """The penalties of members of the same `kinds`.

    Args:
        objectives: Of the members.
        like: Of the dtype and on the device of the weights.
    """

    def __init__(self, objectives: Sequence[Penalised], like: Tensor) -> None:
        self._each = _units(objectives[0])
        rows = [[term.strength for term in objective.terms] for objective in objectives]
        self._table = like.detach().new_tensor(rows)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`."""
        self._table = self._table[list(rows)]

    def of(self, model: nn.Module) -> dict[str, Tensor]:
        """The penalties of one model at strength 1, by name."""
        return {each.name: each(model) for each in self._each}

    def times(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The penalties of all members, (M,) each, from those at strength 1."""
        columns = zip(found.items(), self._table.unbind(1), strict=True)
        return {name: column * each for (name, each), column in columns}
