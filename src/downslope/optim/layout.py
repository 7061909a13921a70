"""How the parameters of one group are laid out for stepping: buckets of tensors that can be treated alike.

A bucket holds tensors of one device, dtype, chain, backend, step count, tally and age. Buckets are rebuilt
whenever what they were built from has changed: a parameter gained or lost its gradient, a gradient came with
another look, a state was loaded or edited. Between two rebuilds a step costs one look at every tensor.
"""

from __future__ import annotations

import functools
import itertools
import logging
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.batches import alike
from downslope.optim.flow import Flow, Lists
from downslope.optim.kernel.own import Apart, Own, Step
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.looks import Held, Looks, Places, has_memory, kind, plain
from downslope.optim.native import Native
from downslope.optim.portions import PIECE, aligned, pieces_of, portions
from downslope.optim.rounding import HALVES, Streams, widened
from downslope.optim.rule import Chain, Rule, Scalars
from downslope.optim.seats import Seat
from downslope.optim.states import State, pack_small, pack_steps, pack_tally
from downslope.optim.together import can_join, is_worth_joining, step_together
from downslope.optim.totals import doubled, total

__all__ = ["Bucket"]

_log = logging.getLogger("downslope")


@dataclass
class Bucket:
    """Tensors that are stepped together, and how: `begin`, sums where a link needs them, `step`."""

    params: list[Tensor]
    states: list[State]
    chain: Chain
    backend: str
    reason: str
    native: Native | None
    t: int
    """Steps made so far."""
    first: bool
    """Whether the states were made just now."""
    maximize: bool
    tally: dict[str, float] = field(default_factory=dict[str, float])
    """The numbers that the rules remember, the same for all tensors."""
    seats: list[Seat] | None = None
    """Where the tensors stand in the place of others: complex, or of half precision."""
    owners: Sequence[Tensor] = ()
    """The parameters themselves, which have the gradients."""
    programs: Traced | Own | None = None
    """Of the chain, for the backend `kernel`."""
    streams: Streams | None = None
    """Of random bits, where rounding is by chance."""
    kernel: Step | None = field(init=False, default=None)
    """Made at the first step."""
    kinds: list[tuple[Any, ...]] | None = field(init=False, default=None)
    """Of the parameters and their states, as they were laid out; `laid` asks it of all at once."""
    laid: Looks | None = field(init=False, default=None)
    looks: Looks | None = field(init=False, default=None)
    """Of the parameters and gradients when all was right."""
    held: Held | None = field(init=False, default=None)
    """What the states were then."""
    turned: list[int] = field(init=False, default_factory=list[int])
    """Places of gradients that lie otherwise than their parameters."""
    places: Places = field(init=False, default_factory=Places)
    columns: list[list[Any]] = field(init=False)
    """The states by the chain's keys, of this step."""
    read: list[Tensor] = field(init=False)
    """All that a step reads beside gradients."""
    counted: int = field(init=False, default=0)
    """The version of `steps`, which tells an edit from outside; -1 in the inference mode, which has none."""
    steps: Tensor | None = field(init=False, default=None)
    views: list[Tensor] = field(init=False, default_factory=list["Tensor"])
    pieces: list[slice] = field(init=False)
    former: tuple[int, dict[str, float]] | None = field(init=False, default=None)  # t, tally before `begin`
    ks: list[Scalars] = field(init=False, default_factory=list["Scalars"])
    """The scalars of this step for every link."""
    apart: set[int] = field(init=False, default_factory=set[int])
    """Links that add up over a tensor: their scalars may be tensors with an entry for each parameter."""

    def __post_init__(self) -> None:
        self.owners = self.owners or self.params
        self.keys = self.chain.keys_of(self.params[0])
        self.pieces = pieces_of(self.params) if self.chain.scope != "matrix" else alike(self.params)
        if self.programs is not None and not isinstance(self.programs, Own) and self.seats is None:
            pack_small(self.params, self.states, self.keys)
        self.tallies = pack_tally(self.states, self.tally, self.chain.common)
        self.counts = [*self.tallies.values(), *([self.streams.counts] if self.streams else [])]
        # A link without an expression for lists takes its tensors one by one, and so does its whole chain.
        self.listed = all(type(link).eager is not Rule.eager for link in self.chain.links)
        if self.chain.counts:
            on_device = self.native is not None
            self.steps, self.views = pack_steps(
                self.states, self.params[0].device if on_device else torch.device("cpu")
            )
            self.counted = -1 if self.steps.is_inference() else self.steps._version
            self.counts.append(self.steps)
            self.one = torch.ones((), device=self.steps.device)  # torch makes a tensor of a number each time
        self._take(self._columns())
        self.joins = (
            self.backend == "eager"
            and not self.listed
            and can_join(self.chain, self.params, self.columns, self.pieces)
        )

    def gradients(self) -> list[Tensor] | None:
        """The gradients if they, the parameters and the states look as they did when the bucket was built,
        else None: then the checks of a first step stand.

        Any of them may be exchanged or edited between two steps, and kernels, torch's too, would then read
        and write what is not theirs.
        """
        if self.counted >= 0 and self.steps is not None and self.steps._version != self.counted:
            return None
        self.turned = []
        grads: list[Any] | None = self._found()
        same = self.looks is not None and self.looks.same([*self.params, *grads])
        if not (same and self.held is not None and self.held.same()):
            grads = self._looked_through(grads)
            if grads is None:
                return None
        return grads if self._has_memory(grads) else None

    def _has_memory(self, grads: Sequence[Tensor]) -> bool:
        """Whether a kernel fits, and nothing was freed of what a step reads; else laying out anew refuses."""
        if self.kernel is None:
            return self.places.are_whole(self.read) and has_memory(grads)
        fits = self.kernel.fits(self.params, self.columns) and has_memory(self.counts)
        return fits and has_memory(grads) and (self.seats is None or self.places.are_whole(self.owners))

    def _take(self, columns: list[list[Any]]) -> None:
        self.columns = columns
        copies = self.params if self.seats is not None else ()
        self.read = [*self.owners, *copies, *itertools.chain.from_iterable(columns), *self.counts]

    def _looked_through(self, grads: list[Any]) -> list[Tensor] | None:
        """The gradients, each of which was looked at; copied where they must be; None if they do not fit."""
        columns = self._columns()
        if not self._counts_stand() or any(g is None for g in grads) or not self._as_laid_out(columns):
            return None
        taken = self._looked_at(grads)
        if taken is not None:
            self.looks = self.held = None
            if self.seats is None and not self.turned and all(map(operator.is_, taken, grads)):
                self.looks, self.held = Looks([*self.params, *grads]), Held(self.states)
            self._take(columns)
        return taken

    def _counts_stand(self) -> bool:
        """Whether all states are there, and nobody but this bucket has set their counts."""
        if self.streams is not None and not self.streams.stand(self.states):
            return False
        if self.steps is None:
            return True
        found = [state.get("step") for state in self.states]
        edited = self.counted >= 0 and self.steps._version != self.counted
        return not edited and all(map(operator.is_, found, self.views))

    def _as_laid_out(self, columns: Sequence[list[Any]]) -> bool:
        """Whether parameters and states look as they did when the bucket was built and first asked."""
        tensors = [*self.owners, *itertools.chain.from_iterable(columns)]
        if self.laid is not None and self.laid.same(tensors):
            return True
        kinds = [kind(x) if isinstance(x, Tensor) and x.layout == torch.strided else () for x in tensors]
        if self.kinds is None:
            self.kinds = kinds
        elif kinds == self.kinds:
            self.laid = Looks(tensors) if () not in kinds else None
        return kinds == self.kinds

    def _looked_at(self, grads: list[Tensor]) -> list[Tensor] | None:
        """The gradients as they are, but for lazy bits; None where another layout is due."""
        dtype = self.owners[0].dtype if self.copied else self.params[0].dtype
        for g, p in zip(grads, self.params, strict=True):
            if (g.layout, g.shape, g.dtype, g.device) != (p.layout, p.shape, dtype, p.device):
                return None
        taken = self._compared(grads)
        return None if self.native is not None and self.turned else taken

    def _compared(self, grads: list[Any]) -> list[Tensor]:
        taken = list(map(plain, grads))
        pairs = enumerate(zip(taken, self.params, strict=True))
        self.turned = [n for n, (g, p) in pairs if g.stride() != p.stride()]
        return taken

    def taken(self) -> list[Tensor]:
        """The gradients, whatever a kernel of torch's that was asked for can read at once."""
        return self.gradients() or self._compared(self._found())

    def _columns(self) -> list[list[Any]]:
        return [[state.get(key) for state in self.states] for key in self.keys]

    def _found(self) -> list[Any]:
        return [p.grad for p in self.owners] if self.seats is None else [s.gradient() for s in self.seats]

    def begin(self) -> None:
        """Starts a step: counts it and forms its scalars. A kernel that cannot be made is refused here."""
        if self.programs is not None:
            self._kernel()
        for seat in self._unserved() if self.seats else ():
            seat.begin()
        self.former = self.t, self.tally
        self.t += 1
        if self.steps is not None:
            self.steps.add_(self.one)
            self.counted = self.steps._version if self.counted >= 0 else -1
        if self.native is None:
            ks, self.tally = self.chain.advance(self._time(), self.tally)
            self.ks, self.apart = list(ks), set()

    def undo(self) -> None:
        """Takes back what `begin` did: of a step that was refused nothing counts."""
        if self.former is not None and self.steps is not None:
            self.steps.sub_(1.0)
            self.counted = self.steps._version if self.counted >= 0 else -1
        (self.t, self.tally), self.former = self.former or (self.t, self.tally), None

    def _time(self) -> int:
        return self.t if self.steps is not None else 1 if self.first else 2

    def measure(self, i: int, grads: list[Tensor], *, wide: bool = False) -> list[Tensor]:
        """For each total that link `i` wants, a float64 tensor with an entry for each parameter; of elements
        in float64 where `wide`, which a kernel sees to by itself.
        """
        kernel = self._kernel()
        if kernel is not None:
            kernel.turned = self.turned
            return kernel.measure(i, grads, self.ks)
        peaks = self.chain.links[i].peak
        found: list[list[Tensor]] = []
        for n, g in enumerate(grads):
            sums: list[list[Tensor]] = []
            for cut in self._cut(n, g):
                p, part, before = doubled(*cut) if wide else cut
                own = self.chain.measure(i, part, before, p, self._scalars(n))
                sums.append([total(each, peak) for each, peak in zip(own, peaks, strict=True)])
            columns = zip(*sums, strict=True)
            found.append([total(torch.stack(each), peak) for each, peak in zip(columns, peaks, strict=True)])
        return [torch.stack(column) for column in zip(*found, strict=True)]

    def settle(self, i: int, totals: Sequence[Tensor] | Scalars) -> None:
        """Gives link `i` its totals: one for all, or one for each parameter as `measure` returns them."""
        link = self.chain.links[i]
        own = {name: self.tally[name] for name in link.tally}
        if isinstance(totals, Scalars):
            self.ks[i], after = link.settle(self._time(), self.ks[i], totals, own)
            self.tally |= {name: float(value) for name, value in after.items()}
            return
        named = Scalars(**dict(zip(link.measures, totals, strict=True)))
        self.ks[i], _ = link.settle(self._time(), self.ks[i], named, own)
        self.apart.add(i)

    def _scalars(self, n: int) -> list[Scalars]:
        """The scalars of every link for parameter `n`."""
        return [k.of(n) if i in self.apart else k for i, k in enumerate(self.ks)]

    def _kernel(self) -> Step | None:
        """The kernel, of which the driver has asked at this step whether it fits; None for other backends.

        One that cannot be made, and was not asked for, is said, and torch's operations step instead.
        """
        made = self.programs
        apart = isinstance(made, Own) and not made.reads_any and (self.copied or bool(self.turned))
        if apart and not isinstance(self.kernel, Apart):
            self.kernel = None
        if self.kernel is None and made is not None:
            from downslope.optim.kernel.table import KernelStep

            narrow = self.owners[0].dtype if self.copied else None
            given = {"streams": self.streams, "owners": self._beside(), "narrow": narrow}
            own = functools.partial(made.step, apart=apart) if isinstance(made, Own) else None
            make = own or functools.partial(KernelStep, made, **given)
            try:
                self.kernel = make(self.params, self.columns, maximize=self.maximize)
            except RecipeError as error:
                if self.reason == "asked for":
                    raise
                _log.warning("%s; torch's operations step instead", error)
                self.programs, self.backend = None, "eager"
        return self.kernel

    @property
    def copied(self) -> bool:
        """Whether the parameters are float32 copies of their owners, whose gradients have another dtype."""
        return self.owners[0].dtype in HALVES and self.seats is not None

    def _beside(self) -> list[Tensor] | None:
        """The owners of float32 copies, which a kernel takes along where they lie as the copies."""
        lie_alike = all(p.stride() == each.stride() for p, each in zip(self.params, self.owners, strict=True))
        return list(self.owners) if self.copied and lie_alike else None

    def _unserved(self) -> list[Seat]:
        """The seats that no kernel sees to."""
        kernel = self._kernel()
        return (self.seats or []) if kernel is None or not kernel.serves else []

    def _remembered(self, p: Tensor, state: State) -> list[tuple[Tensor, ...]]:
        return [link.remember(state[key] for key in link.keys_of(p)) for link in self.chain.links]

    def step(self, grads: list[Tensor]) -> None:
        """The step that has begun, by the bucket's backend."""
        kernel = None if self.native is not None else self._kernel()
        if self.native is not None:
            self._step_native(self.native, grads)
            torch.autograd.graph.increment_version(self.params)  # which torch's kernels leave out
        elif kernel is not None:
            kernel.turned = self.turned
            kernel.update(self.params, grads, self.ks)
        elif self.backend == "eager" and self.listed and not self.apart:
            self._step_eager(grads)
        elif self.backend == "eager" and self.joins and not self.apart:
            self._step_joined(grads)
        else:
            self._step_by_tensor(grads)
        self._end()

    def _end(self) -> None:
        for seat in self._unserved() if self.seats else ():
            seat.done()
        for name, values in self.tallies.items():
            values.fill_(self.tally[name])
        self.first, self.former = False, None

    def _step_native(self, native: Native, grads: list[Tensor]) -> None:
        """Torch's kernel on all at once, or in pieces where gradients are copied first."""
        if not (self.turned or self.copied):
            native.run(self.params, grads, self.columns, self.views, self.first)
            return
        for piece in self.pieces:
            lists = [each[piece] for each in (grads, self.params, *self.columns)]
            for part, params, *states in portions(lists):
                ready = list(map(aligned, part, params))
                native.run(params, ready, states, self.views[piece], self.first)

    def _step_eager(self, grads: list[Tensor]) -> None:
        sign = -1.0 if self.maximize else 1.0
        for piece in self.pieces:
            lists = [each[piece] for each in (grads, self.params, *self.columns)]
            for part, params, *states in portions(lists, whole=self.chain.scope == "matrix"):
                flow, rest = Flow(part, scale=sign), iter(states)
                for link, k in zip(self.chain.links, self.ks, strict=True):
                    held: Lists = list(itertools.islice(rest, len(link.keys)))
                    flow = link.eager(flow, held, params, k)
                flow.descend(params)

    def _step_joined(self, grads: list[Tensor]) -> None:
        for piece in self.pieces:
            part, params, *states = [each[piece] for each in (grads, self.params, *self.columns)]
            if is_worth_joining(params):
                step_together(self.chain, self.ks, params, part, states, maximize=self.maximize)
            else:
                self._step_by_tensor(grads, range(piece.start, piece.stop))

    def _step_by_tensor(self, grads: list[Tensor], places: Sequence[int] | None = None) -> None:
        alone = len(self.chain.links) == 1 and self.backend == "eager"
        for n in range(len(grads)) if places is None else places:
            p, g, state, ks = self.params[n], grads[n], self.states[n], self._scalars(n)
            if alone and self.chain.links[0].in_place(
                p, widened(g), self._remembered(p, state)[0], ks[0], -1.0 if self.maximize else 1.0
            ):
                continue
            for x, part, before in self._cut(n, g):
                step, after = self.chain.update(part, before, x, ks)
                x.sub_(step)
                for old, new in zip(before, after, strict=True):
                    for tensor, value in zip(old, new, strict=True):
                        if tensor is not value:
                            tensor.copy_(value)

    def _cut(self, n: int, g: Tensor) -> Iterator[tuple[Tensor, Tensor, list[tuple[Tensor, ...]]]]:
        """Parameter `n`, its gradient with the sign of ``maximize``, and its states: in pieces, unless a rule
        may look beyond an element, or the rules shall be run as they are written.
        """
        p = self.params[n]
        before = self._remembered(p, self.states[n])
        whole = self.backend != "eager" or (p.numel() > PIECE and isinstance(traced(self.chain), str))
        lists = [[each] for each in (g, p, *itertools.chain.from_iterable(before))]
        for [part], [x], *states in portions(lists, whole=whole):
            rest = (state for [state] in states)
            cut = [
                link.remember(itertools.islice(rest, len(old)))
                for link, old in zip(self.chain.links, before, strict=True)
            ]
            yield x, -part if self.maximize else part, cut
