"""The weights to evaluate, where they are not those that are trained, and which of them parameters hold."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.optim.aside import Aside
from downslope.optim.group import Compose
from downslope.optim.looks import check_memory
from downslope.optim.routes import names_of, routed

__all__ = ["Mode", "does_show"]

Groups = Sequence[Mapping[str, Any]]
Table = Mapping[Tensor, Mapping[str, Any]]


class Mode:
    """Whether parameters hold the weights that are trained, or those to evaluate.

    Attributes:
        evaluating: Whether they hold those to evaluate.
        trained: The others meanwhile, of the parameters for which it makes a difference.
    """

    def __init__(self) -> None:
        self.evaluating, self.trained = False, Aside("trained")

    def evaluated(self, groups: Groups, table: Table, compose: Compose, p: Tensor) -> Tensor:
        """The weights to evaluate in the place of `p`.

        Raises:
            ModelError: `p` is in none of the groups.
        """
        for group in groups:
            if any(each is p for each in group["params"]):
                others = [] if self.evaluating else _others(group, table, compose, only=p)
                return others[0][1] if others else p
        raise ModelError(
            f"a parameter of shape {tuple(p.shape)} is none of this optimizer's; ask for one that it was "
            "given"
        )

    def eval(self, groups: Groups, table: Table, compose: Compose) -> None:
        """Put the weights to evaluate in place; without rules that have any nothing happens."""
        if self.evaluating or not any(does_show(group, compose) for group in groups):
            return
        with torch.no_grad():
            others = [pair for group in groups for pair in _others(group, table, compose)]
            self.trained.keep(p for p, _ in others)
            for p, other in others:
                p.copy_(other)
        self.evaluating = True

    def train(self) -> None:
        """Put the weights that are trained back in place, bit for bit."""
        self.trained.put_back()
        self.evaluating = False

    @contextlib.contextmanager
    def shown(self, groups: Groups, table: Table, compose: Compose) -> Generator[None]:
        """A block with the weights to evaluate in place."""
        outermost = not self.evaluating
        self.eval(groups, table, compose)
        try:
            yield
        finally:
            if outermost:
                self.train()

    def check(self) -> None:
        """Refuse a step on weights that are not those that are trained.

        Raises:
            ModelError: they are put aside.
        """
        if self.evaluating:
            raise ModelError(
                "a step while the weights to evaluate are in place, which the gradient is not for: call "
                "optimizer.train() before it, or leave the block `with optimizer.shown():`"
            )

    def load(self, groups: Groups, trained: Mapping[int, Tensor]) -> None:
        """Stand where a state_dict was saved, with the weights that were put aside in it."""
        self.trained.load(groups, trained)
        self.evaluating = bool(trained)


def does_show(group: Mapping[str, Any], compose: Compose) -> bool:
    """Whether any rule of a group has other weights to evaluate than those that it trains."""
    return any(chain.shows for chain in routed(compose(group)).active().chains)


def _others(
    group: Mapping[str, Any], table: Table, compose: Compose, only: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Parameters of a group that have other weights to evaluate, with these."""
    active = routed(compose(group)).active()
    if not any(chain.shows for chain in active.chains):
        return []
    found: list[tuple[Tensor, Tensor]] = []
    for p, name in zip(group["params"], names_of(group), strict=True):
        if only is not None and only is not p:
            continue
        chain = active.chains[active.index(p, name)]
        state = table.get(p, {})
        if chain.shows and all(key in state for key in chain.keys_of(p)):
            check_memory([p, *state.values()])
            states = [link.remember(state[key] for key in link.keys_of(p)) for link in chain.links]
            tally = {name: float(state.get(name, start)) for name, start in chain.tally.items()}
            with torch.no_grad():
                trained: Tensor = state.get("master", p)  # of half precision, where it is kept
                found.append((p, chain.shown(states, trained.detach(), tally)))
    return found
