"""Which parameters of a watched model no step changes: held fixed, cut off, or in no optimizer.

Looked at in sampled steps, when the gradients of the step are there. What got a gradient and is in an
optimizer once is no longer asked about, nor is anything whose size has changed between two looks: somebody
may move weights by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.run import Run
from downslope.diagnosis.settings import parameters_of
from downslope.diagnosis.strangers import Strangers, described, untrained
from downslope.training.probes import Observer

LOOKS = 2
"""Looks, at least, from which something counts: at the first one a step may have had no backward pass."""

PASSES = 10
"""Backward passes without a step, from which a script meant to train. Convention."""

_TRAINED = "trained"
_OUTER = ("before", "after")
_UNTAKEN = ("left out", "unregistered")


@dataclass
class _Row:
    """A module that no step has changed so far."""

    parameters: int
    why: str
    size: float
    looks: int = 1
    ids: frozenset[int] = frozenset()
    place: str = ""
    """"loose", "before" or "after" of what the model does not have; "" of its own."""
    untrained: bool = False


@dataclass
class Holding:
    """What the sampled steps of an optimizer showed of the parameters that are trained, or are not.

    Attributes:
        optimizers: Those that are watched.
        held: Ids of the parameters that any optimizer known holds.
        strangers: Modules that were called in training and that the optimizers, or the model, do not have.
    """

    optimizers: tuple[torch.optim.Optimizer, ...]
    held: Callable[[], set[int]] | None = None
    strangers: Strangers = field(default_factory=Strangers)
    looks: int = 0
    idle: int = 0
    """Looks at which no parameter of the optimizers had a gradient."""
    orphans: int = 0
    """Looks at which the optimizers held parameters that are in no model that was called."""
    _rows: dict[str, _Row] = field(default_factory=dict[str, _Row])
    _moved: set[str] = field(default_factory=set[str])
    _order: dict[str, bool] = field(default_factory=dict[str, bool])
    """Modules in forward order, and whether a step changes them."""
    _total: int = 0
    _count: int = 0

    def look(self, observers: Mapping[str, Observer]) -> None:
        """When the gradients of a sampled step are there.

        Args:
            observers: Of the models that the optimizers train, prefix to observer.
        """
        count = sum(len(each.owners) for each in observers.values())
        if self.looks >= LOOKS and count == self._count and not self._rows and self.idle < self.looks:
            return  # a step changes everything: there is nothing left to ask
        self._count = count
        own = parameters_of(*self.optimizers)
        first = {id(p) for p in parameters_of(self.optimizers[0])}
        held = {id(p) for p in own} | (set[int]() if self.held is None else self.held())
        self.looks += 1
        self.idle += all(p.grad is None for p in own)
        inside: set[int] = set()
        self._total = 0
        for prefix, observer in observers.items():
            inside.update(id(p) for p in observer.inner.parameters())
            self._total += sum(p.numel() for p in observer.inner.parameters())
            for name in [*observer.measured(), *observer.owners]:
                if prefix + name not in self._order and name in observer.owners:
                    self._order[prefix + name] = False
            called = observer.measured()
            for name, parameters in observer.own.items():
                why = _why(parameters, held, first, (name or "model") in called)
                self._note(prefix + name, parameters, why)
        self.orphans += any(id(p) not in inside and p.grad is None for p in own) and bool(inside)
        self._outside(observers, held)

    def _outside(self, observers: Mapping[str, Observer], held: set[int]) -> None:
        """What the model does not have: called inside it all the same, or before or after it."""
        for prefix, observer in observers.items():
            for name, parameters, fresh in self.strangers.left(observer.inner):
                why = "unregistered" if _untaken(parameters, held) else _TRAINED
                self._note(f"<{prefix}{name}", parameters, why, "loose", fresh)
        for number, (each, after) in enumerate(self.strangers.outer):
            if (module := each()) is not None:
                whole = list(module.parameters())
                why = "left out" if _untaken(whole, held) else _TRAINED
                place = "after" if after else "before"
                self._note(f"<{number}<{described(module)}", whole, why, place, untrained(module))

    def _note(
        self, name: str, parameters: list[nn.Parameter], why: str | None, place: str = "", fresh: bool = False
    ) -> None:
        if name in self._moved or why is None:
            return
        if why == _TRAINED:
            self._forget(name)
            return
        size = _size(parameters)
        row = self._rows.get(name)
        if row is None:
            count, ids = sum(p.numel() for p in parameters), frozenset(id(p) for p in parameters)
            self._rows[name] = _Row(count, why, size, 1, ids, place, fresh)
        elif row.size != size or row.why != why:
            self._forget(name)
        else:
            row.looks += 1

    def _forget(self, name: str) -> None:
        self._rows.pop(name, None)
        self._moved.add(name)
        if name in self._order:
            self._order[name] = True

    def measured(self) -> dict[str, Any] | None:
        """The fact ``flow`` of a watched run, as `measure.flow` gives it; None where too little was seen.

        Beside it ``watched``, ``sure``: whether what is left out cannot be meant, and ``outside``: rows of
        modules that are called and that the model does not have, with their ``place``. It is sure where
        nothing at all is trained, where the optimizer holds parameters of no model instead, and where a later
        layer is left out while one before it is trained.
        """
        if self.looks < LOOKS:
            return None
        late = set[int]() if self.held is None else self.held()  # an optimizer may have come since
        rows = {
            name: row
            for name, row in self._rows.items()
            if row.looks >= LOOKS and not (row.why in _UNTAKEN and row.ids & late)
        }
        nothing = self.idle == self.looks
        whole = {name: row for name, row in rows.items() if row.place in _OUTER} if nothing else {}
        if whole:
            return _flow(whole, sum(row.parameters for row in whole.values()), sure=True)
        own = {name: row for name, row in rows.items() if not row.place}
        if nothing:
            own = {name: row for name, row in own.items() if row.why == "cut"}
            own = own if own and not any(self._order.values()) else {}
            for row in own.values():
                row.why = "cleared"
            return _flow(own, sum(row.parameters for row in own.values()), sure=True) if own else None
        if not self._total:
            return None
        names = list(self._order)
        trained = [i for i, name in enumerate(names) if self._order[name]]
        later = any(
            row.why == "left out" and trained and names.index(name) > trained[0] for name, row in own.items()
        )
        found = _flow(own, self._total, sure=later or self.orphans == self.looks)
        # What looks trained may be features, or a judge, that somebody took from elsewhere.
        outside = [(name, row) for name, row in rows.items() if row.place and row.untrained]
        told = [_told(name, row) | {"place": row.place} for name, row in outside]
        return found | ({"outside": told} if told else {})


def never_stepped(parameters: Sequence[Tensor], passes: int) -> Run | None:
    """The run of a script that made an optimizer, called backward and never step; None without those."""
    count = sum(p.numel() for p in parameters)
    if not count or passes < PASSES:
        return None
    run = Run(status="done", summary={"steps": 0})
    row = _Row(count, "never stepped", 0.0)
    run.facts |= {"flow": _flow({"<model>": row}, count, sure=True), "not_measured": {}}
    return run


def _flow(rows: Mapping[str, _Row], total: int, *, sure: bool) -> dict[str, Any]:
    held = [_told(name, row) for name, row in rows.items()]
    trained = total - sum(row.parameters for row in rows.values())
    return {"parameters": total, "trained": trained, "held": held, "watched": True, "sure": sure}


def _told(name: str, row: _Row) -> dict[str, Any]:
    plain = name.rpartition("<")[2].strip(">")
    return {"name": plain or "model", "parameters": row.parameters, "why": row.why}


def _untaken(parameters: list[nn.Parameter], held: set[int]) -> bool:
    """Whether the loss depends on the parameters and no optimizer holds any of them."""
    return not any(id(p) in held for p in parameters) and _reached(parameters)


def _why(parameters: list[nn.Parameter], held: set[int], first: set[int], called: bool) -> str | None:
    """Why no step changes these parameters; `_TRAINED` where one does, None where it cannot be told."""
    open_ = [p for p in parameters if p.requires_grad]
    if not open_:
        return "frozen" if called else None
    if not any(id(p) in held for p in open_):
        return "left out" if _reached(open_) else None
    if any(p.grad is not None for p in open_):
        return _TRAINED
    mine = all(id(p) in first for p in open_)
    return "cut" if called and mine else None


def _reached(parameters: Iterable[Tensor]) -> bool:
    """Whether the loss depends on any of the parameters, by their gradients."""
    return any(p.grad is not None and not p.grad.is_sparse and bool(p.grad.any()) for p in parameters)


def _size(parameters: list[nn.Parameter]) -> float:
    real = [p.detach() for p in parameters if p.is_floating_point()]
    sizes: list[Tensor] = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in real]
    return sum(float(each) for each in sizes)
