"""One optimizer for the members of a population: rows of one tensor, each moved by settings of its own.

    rows (M, P)    one row a member: its parameters, flattened, one after another
    slices         columns that are stepped alike, as parameter groups are

Every member takes the step that the optimizer takes on its parameters alone, bit for bit: the same kernel on
the same tensors, which are views of its row. Members whose numbers agree share a call, and neighbouring
parameters become one tensor for the kernel where that changes no bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.method import WHOLE
from downslope.optim.composed import composed
from downslope.optim.domains import check, check_name
from downslope.optim.driver import Optimizer
from downslope.optim.layout import Bucket
from downslope.optim.member_call import Call, Slice, joined, size_in
from downslope.optim.native import match
from downslope.optim.plan import choose
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain
from downslope.optim.states import State

__all__ = ["MemberStep", "columns_of"]

Settings = Mapping[str, Any]


class MemberStep:
    """Steps of the members of a population: element-wise rules, one value a member for every number.

    Memory: the state of the rule for each row, as for any parameters of that size.

    Args:
        cls: The optimizer's class, of element-wise rules.
        settings: Of each member, as the class takes them; what is left out is the class's default.
        rows: The parameters of the members, shape (M, P), contiguous; changed in place.
        slices: Columns, with the settings of each member that differ there from its own; what is in no slice
            stays as it is. One slice of all columns if left out.
        sizes: Elements of each parameter in the order of the columns; left out, a slice is one parameter.

    Raises:
        RecipeError: a setting outside its domain or misspelt, or rules that are not element-wise.
    """

    def __init__(
        self,
        cls: type[Optimizer],
        settings: Sequence[Settings],
        rows: Tensor,
        slices: Sequence[tuple[slice, Sequence[Settings]]] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> None:
        self.cls = cls
        self._slices = [
            Slice(columns, joined(columns, sizes), [dict(each) for each in own], size_in(columns, sizes))
            for columns, own in slices or [(slice(0, rows.shape[1]), [{} for _ in settings])]
        ]
        self._settings = [dict(each) for each in settings]
        self._counts = [0] * len(self._settings)
        self._held: list[set[str]] = [set() for _ in self._settings]
        self._tallies = [_tallies(self._slices) for _ in self._settings]
        self._state: dict[str, Tensor] = {}
        self._cuts: dict[tuple[int, str], list[tuple[Tensor, ...]]] = {}
        made: Any = cls
        self._defaults: dict[str, Any] = made([torch.zeros(1)]).defaults
        self._known: dict[str, tuple[Chain, bool]] = {}
        self._chains = [self._composed(i) for i in range(len(self))]
        self._on: tuple[bool, ...] | None = None
        self._calls: list[Call] = []
        self._lrs: list[float | Sequence[float]] | None = None
        self._ticks = torch.zeros(len(self), device=rows.device)
        self._ticked = self._ticks.unbind()
        self._place: tuple[Any, ...] = ()
        self.rows = rows.detach()

    @classmethod
    def of(cls, optimizers: Sequence[Optimizer], rows: Tensor) -> Self:
        """The step of members whose optimizers were made for each alone.

        Args:
            optimizers: Of one class, with parameter groups of the same sizes. Their state is left out: see
                `take`.
            rows: With the columns of `columns_of`, which is the same for all.
        """
        if any(each.scheduled for each in optimizers):
            raise RecipeError(
                f"{type(optimizers[0]).__name__} with schedules of its own sets its groups at every step: "
                "train its members one by one"
            )
        whole = next((key for each in optimizers for key in WHOLE if getattr(each, key) is not None), None)
        if whole is not None:
            raise RecipeError(f"{whole} is of one optimizer's steps: train its members one by one")
        first = optimizers[0]
        sizes = [[p.numel() for p in group["params"]] for group in first.param_groups]
        ends = itertools.accumulate(sum(each) for each in sizes)
        slices = [
            (slice(start, end), [_differing(each.param_groups[k], each.defaults) for each in optimizers])
            for k, (start, end) in enumerate(itertools.pairwise([0, *ends]))
        ]
        return cls(
            type(first), [each.defaults for each in optimizers], rows, slices,
            [size for each in sizes for size in each],
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._settings)

    # -- a step -------------------------------------------------------------------------------------------

    def step(
        self,
        grad: Tensor,
        lrs: Sequence[float | Sequence[float]] | None = None,
        on: Sequence[bool] | None = None,
    ) -> None:
        """One step of every member.

        Args:
            grad: Of the rows, shape (M, P).
            lrs: The learning rate of each member at this step, or one a slice; that of the settings if left
                out.
            on: Which members step; the others keep rows and state. All if left out.
        """
        said = None if on is None or all(on) else tuple(on)
        with torch.no_grad():
            if not self._calls or said != self._on:
                self._on, self._calls, self._lrs = said, self._grouped(said), None
            if lrs is not None and lrs != self._lrs:
                self._calls = [part for call in self._calls for part in self._at(call, lrs)]
                self._lrs = list(lrs)
            self._lay_out(grad)
            self._ticks.add_(1.0 if said is None else torch.tensor(said).to(self._ticks))
            for call in self._calls:
                call.run()
        for i in range(len(self)):
            if said is None or said[i]:
                self._counts[i] += 1

    def _lay_out(self, grad: Tensor) -> None:
        """Give every call its views of the gradient, unless it has them: they keep their memory alive."""
        place = grad.data_ptr(), grad.stride()
        missing = [call for call in self._calls if place != self._place or not call.grads]
        if missing:
            cuts = [each.cut(grad) for each in self._slices]
            for call in missing:
                call.grads = [part[i] for part in cuts[call.place] for i in call.members]
            self._place = place

    def _at(self, call: Call, lrs: Sequence[float | Sequence[float]]) -> list[Call]:
        """The call with the rates of this step; in parts from now on where those of its members differ."""
        rates = [_rate(lrs[i], call.place) for i in call.members]
        if any(rate != rates[0] for rate in rates):
            parts: dict[float, list[int]] = {}
            for i, rate in zip(call.members, rates, strict=True):
                parts.setdefault(rate, []).append(i)
            return [
                part
                for members in parts.values()
                for part in self._at(self._call(call.place, members, first=call.first), lrs)
            ]
        call.at(rates[0])
        return [call]

    def _grouped(self, on: tuple[bool, ...] | None) -> list[Call]:
        """Calls of the members that are on, one for those of the same numbers and the same past."""
        made: list[Call] = []
        self._ticks = torch.tensor(self._counts, dtype=torch.float32, device=self.rows.device)
        self._ticked = self._ticks.unbind()
        for place in range(len(self._slices)):
            alike: dict[Any, list[int]] = {}
            for i in range(len(self)):
                if on is None or on[i]:
                    chain, maximize = self._chains[i][place]
                    first = not self._held[i].issuperset(chain.keys)
                    tally = tuple(self._tally(i, place).items())
                    key = (*chain.fields().items(), maximize, self._counts[i], first, tally)
                    alike.setdefault(key, []).append(i)
            made += [self._call(place, each, first=past[-2]) for past, each in alike.items()]
        for i in range(len(self)):
            if on is None or on[i]:
                self._held[i] |= {key for chain, _ in self._chains[i] for key in chain.keys}
        return made

    def _call(self, place: int, members: list[int], *, first: bool) -> Call:
        chain, maximize = self._chains[members[0]][place]
        if not self._state.keys() >= set(chain.keys):
            fresh = (tensor for state in chain.init(self.rows) for tensor in state)
            self._state = dict(zip(chain.keys, fresh, strict=True)) | self._state
        columns = {key: self._cut(place, key) for key in chain.keys}
        found = self._cut(place)
        spots = [(k, i) for k in range(len(found)) for i in members]
        params = [found[k][i] for k, i in spots]
        state = {key: [column[k][i] for k, i in spots] for key, column in columns.items()}
        choice = choose(params[0], chain, match(chain, maximize), None, self._slices[place].size)
        if choice.native is not None:
            steps = [self._ticked[i] for _, i in spots]
            return Call(place, members, choice.native, params, list(state.values()), steps, first)
        count = self._counts[members[0]]
        states: list[State] = [
            {"step": count} | {key: column[n] for key, column in state.items()} for n in range(len(spots))
        ]
        bucket = Bucket(
            params,
            states,
            chain,
            choice.backend,
            choice.reason,
            None,
            programs=choice.programs,
            t=count,
            first=first,
            maximize=maximize,
            tally=self._tally(members[0], place),
        )
        call = Call(place, members, bucket, params, [], [], first)
        call.tallies = [self._tallies[i][place] for i in members]
        return call

    def _tally(self, i: int, place: int) -> dict[str, float]:
        """What the rules of member `i` remember in one slice beside the count of its steps."""
        held = self._tallies[i][place]
        return {name: held.get(name, start) for name, start in self._chains[i][place][0].tally.items()}

    def _cut(self, place: int, key: str = "") -> list[tuple[Tensor, ...]]:
        """Views of a state, or of the rows, in one slice."""
        if (place, key) not in self._cuts:
            self._cuts[place, key] = self._slices[place].cut(self._state[key] if key else self.rows)
        return self._cuts[place, key]

    # -- settings -----------------------------------------------------------------------------------------

    def _composed(self, i: int) -> list[tuple[Chain, bool]]:
        """The active chain of member `i` for every slice, and whether it climbs."""
        return [self._chain({**self._settings[i], **each.own[i]}) for each in self._slices]

    def _chain(self, settings: Settings) -> tuple[Chain, bool]:
        key = repr(sorted(settings.items()))
        if key not in self._known:
            for name in settings:
                check_name(name, list(self._defaults), self.cls.__name__)
            whole = {
                name: check(name, settings.get(name, value), self.cls.domains)
                for name, value in self._defaults.items()
            }
            chain = composed(self.cls, whole)
            if isinstance(chain, Routes):
                raise RecipeError(
                    f"{self.cls.__name__} steps some parameters by other rules than others, rows of members "
                    "are stepped by one; train its members one by one"
                )
            if chain.scope != "element":
                raise RecipeError(
                    f"{self.cls.__name__}: its rules look at a whole {chain.scope}, rows of members are "
                    "stepped by element-wise rules only; train its members one by one"
                )
            self._known[key] = chain.active(), bool(whole.get("maximize", False))
        return self._known[key]

    def set(self, i: int, **settings: Any) -> None:
        """Give member `i` other settings; what a slice sets by itself stays.

        Raises:
            RecipeError: a setting outside its domain or misspelt.
        """
        former = self._settings[i]
        self._settings[i] = {**former, **settings}
        try:
            self._chains[i] = self._composed(i)
        except RecipeError:
            self._settings[i] = former
            raise
        self._calls = []

    def regroup(self, i: int, optimizer: Optimizer) -> None:
        """Give member `i` the settings that the groups of its own `optimizer` have by now.

        Raises:
            RecipeError: a setting outside its domain.
        """
        for each, group in zip(self._slices, optimizer.param_groups, strict=True):
            each.own[i] = _differing(group, {**self._defaults, **self._settings[i]})
        self._chains[i], self._calls = self._composed(i), []

    # -- members come and go ------------------------------------------------------------------------------

    def keep(self, index: Sequence[int], rows: Tensor) -> None:
        """Go on with the members of `index` only, whose parameters are `rows` from here on."""
        chosen = torch.tensor(list(index), device=self.rows.device)
        self.rows = rows.detach()
        self._state = {key: value.index_select(0, chosen) for key, value in self._state.items()}
        self._settings = [self._settings[i] for i in index]
        self._counts = [self._counts[i] for i in index]
        self._held = [self._held[i] for i in index]
        self._tallies = [self._tallies[i] for i in index]
        self._chains = [self._chains[i] for i in index]
        for each in self._slices:
            each.own = [each.own[i] for i in index]
        self._on, self._calls, self._cuts = None, [], {}

    def state_of(self, i: int) -> dict[str, Tensor]:
        """Copies of the state of member `i`: rows of length P by torch's names, ``step``, and a number for
        each slice of what else its rules remember.
        """
        rows = {key: self._state[key][i].clone() for key in sorted(self._held[i])}
        tallies = {
            name: torch.tensor([held[name] for held in self._tallies[i] if name in held], dtype=torch.float64)
            for name in {name for held in self._tallies[i] for name in held}
        }
        return {**rows, **tallies, "step": torch.tensor(float(self._counts[i]))}

    def load(self, i: int, state: Mapping[str, Tensor]) -> None:
        """Go on with member `i` from what `state_of` gave, of this member or another."""
        told = {name for chain, _ in self._chains[i] for name in chain.tally}
        rows = {key: value for key, value in state.items() if key != "step" and key not in told}
        self._tallies[i] = _tallies(self._slices)
        for name in told & state.keys():
            for held, value in zip(self._tallies[i], state[name], strict=True):
                held[name] = float(value)
        for key, value in rows.items():
            self._state.setdefault(key, torch.zeros_like(self.rows))[i] = value
        self._held[i], self._counts[i] = set(rows), int(state["step"])
        self._calls = []

    def give(self, i: int, optimizer: Optimizer) -> None:
        """Put the state of member `i` into an `optimizer` of its own, as that would have it by now."""
        for (p, place), columns in zip(self._placed(optimizer), self._columns(optimizer), strict=True):
            chain, _ = self._chains[i][place]
            if self._counts[i] and (chain.keys or chain.counts):
                held = {key: self._state[key][i, columns].clone().view_as(p) for key in chain.keys}
                count = {"step": torch.tensor(float(self._counts[i]))} if chain.counts else {}
                told = {
                    name: torch.tensor(value, dtype=torch.float64)
                    for name, value in self._tally(i, place).items()
                }
                optimizer.state[p] = count | told | held

    def take(self, i: int, optimizer: Optimizer, count: int) -> None:
        """Go on with member `i` from the state of its own `optimizer`, which has made `count` steps."""
        self._held[i], self._counts[i], self._calls = set(), count, []
        self._tallies[i] = _tallies(self._slices)
        for (p, place), columns in zip(self._placed(optimizer), self._columns(optimizer), strict=True):
            for key, value in optimizer.state.get(p, {}).items():
                if key in self._chains[i][place][0].tally:
                    self._tallies[i][place][key] = float(value)
                elif key != "step":
                    whole = self._state.setdefault(key, torch.zeros_like(self.rows))
                    whole[i, columns] = value.reshape(-1)
                    self._held[i].add(key)

    def _placed(self, optimizer: Optimizer) -> list[tuple[Tensor, int]]:
        return [(p, k) for k, group in enumerate(optimizer.param_groups) for p in group["params"]]

    def _columns(self, optimizer: Optimizer) -> list[slice]:
        ends = itertools.accumulate(p.numel() for p in columns_of(optimizer))
        return [slice(start, end) for start, end in itertools.pairwise([0, *ends])]


def columns_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of an optimizer in the order in which `MemberStep.of` has their columns."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _tallies(slices: Sequence[Any]) -> list[dict[str, float]]:
    return [{} for _ in slices]


def _differing(group: Settings, defaults: Settings) -> dict[str, Any]:
    return {name: group[name] for name, value in defaults.items() if group[name] != value}


def _rate(rate: float | Sequence[float], place: int) -> float:
    return rate[place] if isinstance(rate, Sequence) else rate
