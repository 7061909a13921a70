"""The weights to evaluate, where they are not those that are trained."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.optim.group import Compose
from downslope.optim.routes import names_of, routed

__all__ = ["show", "shown_of"]

Groups = Sequence[Mapping[str, Any]]
Table = Mapping[Tensor, Mapping[str, Any]]


def shown_of(groups: Groups, table: Table, compose: Compose, p: Tensor) -> Tensor:
    """The weights to evaluate in the place of `p`.

    Raises:
        ModelError: `p` is in none of the groups.
    """
    for group in groups:
        if any(each is p for each in group["params"]):
            return next((other for found, other in _others(group, table, compose) if found is p), p)
    raise ModelError(
        f"a parameter of shape {tuple(p.shape)} is none of this optimizer's; ask for one that it was given"
    )


@contextlib.contextmanager
def show(groups: Groups, table: Table, compose: Compose) -> Generator[None]:
    """Parameters hold the weights to evaluate; afterwards they are put back bit for bit."""
    with torch.no_grad():
        others = [pair for group in groups for pair in _others(group, table, compose)]
        kept = [p.clone() for p, _ in others]
        for p, other in others:
            p.copy_(other)
    try:
        yield
    finally:
        with torch.no_grad():
            for (p, _), former in zip(others, kept, strict=True):
                p.copy_(former)


def _others(group: Mapping[str, Any], table: Table, compose: Compose) -> list[tuple[Tensor, Tensor]]:
    """Parameters of a group that have other weights to evaluate, with these."""
    active = routed(compose(group)).active()
    if not any(chain.shows for chain in active.chains):
        return []
    found: list[tuple[Tensor, Tensor]] = []
    for p, name in zip(group["params"], names_of(group), strict=True):
        chain = active.chains[active.index(p, name)]
        state = table.get(p, {})
        if chain.shows and all(key in state for key in chain.keys_of(p)):
            states = [link.remember(state[key] for key in link.keys_of(p)) for link in chain.links]
            with torch.no_grad():
                found.append((p, chain.shown(states, p.detach())))
    return found
