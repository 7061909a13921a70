"""Weights put aside while others stand in their place; saved with the state, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.looks import check_memory
from downslope.optim.rounding import HALVES

__all__ = ["Aside", "params_of"]


def params_of(groups: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """The parameters of all groups, in the order in which a state_dict numbers them."""
    return [p for group in groups for p in group["params"]]


class Aside:
    """Tensors by parameter that an optimizer keeps beside the state of its rules.

    Args:
        key: their name in a state_dict.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.held: dict[Tensor, Tensor] = {}

    def __bool__(self) -> bool:
        return bool(self.held)

    def keep(self, params: Iterable[Tensor]) -> None:
        """Keep copies of these as they stand; what was kept of them before is forgotten."""
        kept = list(params)
        check_memory(kept)
        for p in kept:
            self.held[p] = p.detach().clone(memory_format=torch.preserve_format)

    def put_back(self) -> None:
        """Give the parameters what was kept, bit for bit, and forget it.

        Raises:
            RecipeError: the memory of one was freed; all are as they were.
        """
        check_memory([*self.held, *self.held.values()])
        with torch.no_grad():
            for p, former in self.held.items():
                p.copy_(former)
        self.held = {}

    def saved(self, groups: Sequence[Mapping[str, Any]], saved: dict[str, Any]) -> dict[str, Any]:
        """A state_dict with what is kept among the states."""
        if not self.held:
            return saved
        state = dict(cast("dict[int, dict[str, Any]]", saved["state"]))
        for i, p in enumerate(params_of(groups)):
            if p in self.held:
                state[i] = {**state.get(i, {}), self.key: self.held[p]}
        return {**saved, "state": state}

    def taken(self, saved: Mapping[str, Any]) -> tuple[dict[str, Any], dict[int, Tensor]]:
        """A state_dict without what is kept, and that by the parameters' numbers."""
        held = cast("dict[int, dict[str, Any]]", saved.get("state", {}))
        kept = {i: entries[self.key] for i, entries in held.items() if self.key in entries}
        if not kept:
            return dict(saved), kept
        state = {
            i: {name: value for name, value in entries.items() if name != self.key}
            for i, entries in held.items()
        }
        return {**saved, "state": {i: entries for i, entries in state.items() if entries}}, kept

    def load(self, groups: Sequence[Mapping[str, Any]], kept: Mapping[int, Tensor]) -> None:
        """Take over copies of what `taken` gave: as their parameters, float32 beside half precision too.

        Raises:
            RecipeError: tensors of other shapes, as from another model's state_dict.
        """
        params = params_of(groups)
        check_memory([*kept.values(), *(params[i] for i in kept)])
        held: dict[Tensor, Tensor] = {}
        for i, value in kept.items():
            if value.shape != params[i].shape:
                raise RecipeError(
                    f"state {self.key!r} is {tuple(value.shape)} for a parameter of shape "
                    f"{tuple(params[i].shape)}: it belongs to another model; load the state_dict that was "
                    "saved with this one"
                )
            wide = params[i].dtype in HALVES and value.dtype == torch.float32
            held[params[i]] = torch.empty_like(params[i], dtype=value.dtype if wide else None).copy_(value)
        self.held = held
