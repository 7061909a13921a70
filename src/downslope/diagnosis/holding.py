"""Which parameters of a watched model no step changes: held fixed, cut off, or in no optimizer.

Looked at in sampled steps, when the gradients of the step are there. What got a gradient and is in an
optimizer once is no longer asked about, nor is anything whose size has changed between two looks: somebody
may move weights by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
_REPLACED = "replaced"
_UNTAKEN = ("left out", "unregistered", _REPLACED)


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
    since: int = 0
    """The step of the first look at it."""


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
    idle_now: int = 0
    """The latest of them in a row."""
    now: int = 0
    """The step of the latest look."""
    _rows: dict[str, _Row] = field(default_factory=dict[str, _Row])
    _moved: dict[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])
    """Modules that a step changes, or somebody by hand, and the ids of their parameters then."""
    _parts: dict[str, _Row] = field(default_factory=dict[str, _Row])
    """Of modules that a step changes, the parameters that no optimizer holds."""
    _order: dict[str, bool] = field(default_factory=dict[str, bool])
    """Modules in forward order, and whether a step changes them."""
    _total: int = 0
    _known: frozenset[int] = frozenset()

    def look(self, observers: Mapping[str, Observer], step: int = 0) -> None:
        """When the gradients of a sampled step are there.

        Args:
            observers: Of the models that the optimizers train, prefix to observer.
            step: The step.
        """
        known = frozenset(id(p) for each in observers.values() for own in each.own.values() for p in own)
        own = parameters_of(*self.optimizers)
        idle = all(p.grad is None for p in own)
        self.idle_now, self.now = self.idle_now + 1 if idle else 0, step
        settled = self.looks >= LOOKS and known == self._known and not self._rows
        if settled and self.idle < self.looks and not idle:
            return  # a step changes everything: there is nothing left to ask
        self._known = known
        first = {id(p) for p in parameters_of(self.optimizers[0])}
        held = {id(p) for p in own} | (set[int]() if self.held is None else self.held())
        self.looks += 1
        self.idle += idle
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
                if why == _TRAINED:
                    self._part(prefix + name, [p for p in parameters if p.requires_grad], held)
        there = {prefix + name for prefix, each in observers.items() for name in each.own}
        self._rows = {name: row for name, row in self._rows.items() if row.place or name in there}
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
        ids = frozenset(id(p) for p in parameters)
        if why is None or self._moved.get(name) == ids:
            return
        if why == _TRAINED:
            self._forget(name, ids)
            return
        if name in self._moved:
            if why != "left out":
                return
            why = _REPLACED
        size = _size(parameters)
        row = self._rows.get(name)
        if row is None or row.ids != ids:
            count = sum(p.numel() for p in parameters)
            self._rows[name] = _Row(count, why, size, 1, ids, place, fresh, self.now)
        elif row.size != size or row.why != why:
            self._forget(name, ids)
        else:
            row.looks += 1

    def _part(self, name: str, parameters: list[nn.Parameter], held: set[int]) -> None:
        """Of a module that is trained, what no optimizer holds and nobody changes."""
        left = [p for p in parameters if id(p) not in held and _reached([p])]
        row, size = self._parts.get(name), _size(left)
        if row is None:
            ids = frozenset(id(p) for p in left)
            self._parts[name] = _Row(sum(p.numel() for p in left), "left out", size, 1, ids)
        elif row.size != size:
            self._parts[name] = replace(row, parameters=0)
        else:
            row.looks += 1

    def _forget(self, name: str, ids: frozenset[int]) -> None:
        self._rows.pop(name, None)
        self._moved[name] = ids
        if name in self._order:
            self._order[name] = True

    def measured(self) -> dict[str, Any] | None:
        """The fact ``flow`` of a watched run, as `measure.flow` gives it; None where too little was seen.

        Beside it ``watched``, ``sure``: whether what is left out cannot be meant, ``since``: the step by
        which layers had been replaced that were trained till then, and ``outside``: rows of modules that are
        called and that the model does not have, with their ``place``. It is sure where nothing at all is
        trained, where the optimizer holds parameters of no model instead, and where a later
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
        ended = nothing or self.idle_now >= LOOKS
        whole = {name: row for name, row in rows.items() if row.place in _OUTER} if ended else {}
        if whole:
            if not nothing:
                for row in whole.values():
                    row.why = _REPLACED
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
        replaced = any(row.why == _REPLACED for row in own.values())
        part = {n: row for n, row in self._parts.items() if row.parameters and row.looks >= LOOKS}
        part = {n: row.parameters for n, row in part.items() if not row.ids & late}
        found = _flow(own, self._total, part, sure=later or replaced or self.orphans == self.looks)
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
    flow = _flow({"<model>": row}, count, sure=True) | {"passes": passes}
    why = "no step was taken, so that nothing of the training was looked at"
    run.facts |= {"flow": flow, "not_measured": {"": why}}
    return run


def _flow(
    rows: Mapping[str, _Row], total: int, part: Mapping[str, int] | None = None, *, sure: bool
) -> dict[str, Any]:
    held = [_told(name, row) for name, row in rows.items()]
    trained = total - sum(row.parameters for row in rows.values())
    found = {"parameters": total, "trained": trained, "held": held, "watched": True, "sure": sure}
    found |= {"part": dict(part)} if part else {}
    since = [row.since for row in rows.values() if row.why == _REPLACED]
    return found | ({"since": min(since)} if since else {})


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
