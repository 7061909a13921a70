"""One parameter group, laid out: its settings as a chain, its parameters in buckets, while both hold."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import Domains, check
from downslope.optim.kernel.own import Own
from downslope.optim.kernel.trace import structure
from downslope.optim.kinds import Manner, manner_of, seat_of
from downslope.optim.layout import Bucket
from downslope.optim.looks import check_memory
from downslope.optim.native import Native, match
from downslope.optim.plan import Choice, Size, choose, size_of
from downslope.optim.refusals import check_alike, check_members, check_there
from downslope.optim.rounding import HALVES, Streams
from downslope.optim.routes import Routes, names_of, routed
from downslope.optim.rule import Chain
from downslope.optim.seats import Seat
from downslope.optim.states import State, give_state
from downslope.optim.wide import WideBucket

__all__ = ["GroupLayout", "Work"]

_log = logging.getLogger("downslope")

Work = list[tuple[Bucket, list[Tensor]]]
"""Buckets with the gradients of this step."""

Compose = Callable[[Mapping[str, Any]], Chain | Routes]


class _Kind(NamedTuple):
    """What the tensors of a bucket have in common."""

    device: torch.device
    dtype: torch.dtype
    backend: str
    reason: str
    manner: Manner
    route: int
    keys: tuple[str, ...]
    """Of the state, which may hang on the shape."""
    t: int
    tally: tuple[float, ...]
    born: bool


class _Found(NamedTuple):
    """One parameter, and what is stepped in its place."""

    owner: Tensor
    place: int
    p: Tensor
    seat: Seat | None
    state: State
    choice: Choice


class GroupLayout:
    """The buckets of one group, made for the gradients that are there now.

    Args:
        group: the entry of ``param_groups``.
        table: ``optimizer.state``.
        compose: from settings to a chain, or to routes.
        names: the settings' names.
        forced: the backend asked for, or None.
        domains: where the settings may lie, before the table that all share.
        index: of the group.

    Raises:
        RecipeError: a setting outside its domain, a gradient that no backend takes, or a state of another
            shape.
    """

    def __init__(
        self,
        group: dict[str, Any],
        table: dict[Tensor, State],
        compose: Compose,
        names: list[str],
        forced: str | None,
        domains: Domains | None = None,
        index: int = 0,
    ) -> None:
        self.index = index
        self.group, self.table, self.names, self.forced = group, table, names, forced
        self.params: list[Tensor] = group["params"]
        self.members = list(self.params)
        check_there(group, names)
        self.read = operator.itemgetter(*names)
        self.values = [group[name] for name in names]
        self.held_values = self.read(group)
        self.live = any(isinstance(value, Tensor) for value in self.values)  # may change in place
        self.compose = compose
        self.domains = domains
        self.routes = routed(self._composed())
        self.active = self.routes.active()
        self.idle = [p for p in self.params if p.grad is None]
        self.buckets = self._make_buckets([p for p in self.params if p.grad is not None])
        self.dtypes = [p.dtype for p in self.params]
        self.settled = not (len(self.buckets) > 1 and any(bucket.first for bucket in self.buckets))

    def _composed(self) -> Chain | Routes:
        return self.compose({name: check(name, self.group[name], self.domains) for name in self.names})

    def tells(self, before: GroupLayout) -> bool:
        """Says that parameters have another dtype than they had in the layout `before`, if they have."""
        for old, new in zip(before.dtypes, self.dtypes, strict=False):
            if old != new:
                _log.warning(
                    "parameters changed from %s to %s between two steps; their states follow them", old, new
                )
                return True
        return False

    def work(self) -> Work:
        """The buckets with their gradients, right after the layout was made."""
        return [(bucket, bucket.taken()) for bucket in self.buckets]

    def ready(self, table: dict[Tensor, State]) -> Work | None:
        """The buckets with their gradients, or None if anything changed that asks for another layout."""
        group = self.group
        if (
            self.live
            or not self.settled
            or table is not self.table
            or group["params"] is not self.params
            or len(self.params) != len(self.members)
            or not all(map(operator.is_, self.params, self.members))
        ):
            return None
        if self._set_anew() and not self._retune():
            return None
        for p in self.idle:
            if p.grad is not None:
                return None
        work: Work = []
        for bucket in self.buckets:
            grads = bucket.gradients()
            if grads is None:
                return None
            work.append((bucket, grads))
        return work

    def _set_anew(self) -> bool:
        """Whether a setting is not what it was, or gone."""
        try:
            return bool(self.read(self.group) != self.held_values)
        except (KeyError, RuntimeError):  # it is gone, or a tensor of several numbers, which has no one truth
            return True

    def _retune(self) -> bool:
        """Takes over changed settings without a new layout, where they change numbers only."""
        check_there(self.group, self.names)
        values = [self.group[name] for name in self.names]
        changed = {
            name: value
            for name, value, old in zip(self.names, values, self.values, strict=True)
            if value is not old and _is_other(value, old)
        }
        fields = self.routes.fields()
        if any(name not in fields or _is_no_number(value) for name, value in changed.items()):
            return False
        routes = self.routes.replace(**changed) if not self.routes.routes else routed(self._composed())
        active = routes.active()
        pairs = zip(active.chains, self.active.chains, strict=True)
        if any(list(map(type, new.links)) != list(map(type, old.links)) for new, old in pairs):
            return False
        self.routes, self.active, self.values = routes, active, values
        self.held_values = self.read(self.group)
        natives = [match(chain, self.group.get("maximize", False)) for chain in active.chains]
        for bucket, route in zip(self.buckets, self.taken, strict=True):
            programs, chain = bucket.programs, active.chains[route]
            if programs is not None and structure(chain) != structure(bucket.chain):
                return False
            if isinstance(programs, Own) and not programs.stands(chain):
                return False
            bucket.chain = active.chains[route]
            bucket.native = natives[route] if bucket.native is not None else None
            if bucket.backend == "native" and bucket.native is None:
                return False
        return True

    def _make_buckets(self, params: list[Tensor]) -> list[Bucket]:
        maximize = bool(self.group.get("maximize", False))
        natives = [match(chain, maximize) for chain in self.active.chains]
        named = zip(self.params, names_of(self.group), strict=True)
        places = {id(p): (place, name) for place, (p, name) in enumerate(named)}
        size = size_of(self.params)
        alike: dict[_Kind, list[_Found]] = {}
        for p in params:
            place, name = places[id(p)]
            route = self.active.index(p, name)
            kind, found = self._seen(p, place, route, natives[route], size)
            alike.setdefault(kind, []).append(found)
        self.taken = [kind.route for kind in alike]
        return [self._make_bucket(kind, found, maximize) for kind, found in alike.items()]

    def _seen(
        self, owner: Tensor, place: int, route: int, native: Native | None, size: Size
    ) -> tuple[_Kind, _Found]:
        """One parameter as its bucket has it."""
        chain = self.active.chains[route]
        check_memory([owner, _gradient(owner), *self.table.get(owner, {}).values()])
        check_alike(_gradient(owner), owner)
        if self.live:
            check_members(zip(self.names, self.values, strict=True), owner)
        manner = manner_of(owner, self.group)
        seat = seat_of(owner, self.table, manner)
        p = owner if seat is None else seat.p
        choice = choose(p, chain, native, self.forced, size, manner)
        if choice.backend == "native" and self.forced is None:
            g = _gradient(owner) if seat is None else seat.gradient()
            if g is not None and g.stride() != p.stride():
                choice = choose(p, chain, None, None, size, manner)
        state, born = give_state(owner, self.table, chain, seat, manner)
        t = int(state["step"]) if chain.counts else 0
        tally = tuple(float(state[name]) for name in chain.tally)
        keys = chain.keys_of(p)
        kind = _Kind(p.device, p.dtype, choice.backend, choice.reason, manner, route, keys, t, tally, born)
        return kind, _Found(owner, place, p, seat, state, choice)

    def _make_bucket(self, kind: _Kind, found: list[_Found], maximize: bool) -> Bucket:
        chain = self.active.chains[kind.route]
        if chain.scope == "matrix":
            found = sorted(found, key=lambda each: tuple(each.p.shape))
        wide = kind.backend == "rows" or (kind.dtype in HALVES and kind.backend in ("eager", "reference"))
        streams = None
        if kind.manner.rounding == "stochastic":
            seed, places = self.group.get("rounding_seed", 0), [each.place for each in found]
            streams = Streams(seed, self.index, places, [each.state for each in found])
        return (WideBucket if wide else Bucket)(
            [each.p for each in found],
            [each.state for each in found],
            chain,
            kind.backend,
            kind.reason,
            found[0].choice.native,
            programs=found[0].choice.programs,
            t=kind.t,
            first=kind.born,
            maximize=maximize,
            tally=dict(zip(chain.tally, kind.tally, strict=True)),
            seats=[each.seat for each in found if each.seat is not None] or None,
            owners=[each.owner for each in found],
            streams=streams,
            **({"manner": kind.manner} if wide else {}),
        )


def _is_other(value: Any, old: Any) -> bool:
    try:
        return bool(value != old)
    except RuntimeError:
        return True


def _is_no_number(value: Any) -> bool:
    parts = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return any(isinstance(part, Tensor | str) for part in parts)


def _gradient(p: Tensor) -> Tensor:
    g = p.grad
    if g is None:
        raise RecipeError("a gradient was removed while the step was laid out; call step() from one thread")
    return g
