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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.batches import alike
from downslope.optim.flow import Flow, Lists
from downslope.optim.kernel.own import Own, Step
from downslope.optim.looks import Held, Looks, is_dense, kind, plain
from downslope.optim.native import Native
from downslope.optim.rounding import Streams
from downslope.optim.rule import Chain, Rule, Scalars
from downslope.optim.seats import Seat
from downslope.optim.states import State, pack_small, pack_steps, pack_tally

if TYPE_CHECKING:
    from downslope.optim.kernel.trace import Traced

__all__ = ["Bucket", "flat", "total"]

_log = logging.getLogger("downslope")

# The eager backend works through pieces of about this many elements, so that a piece stays in the cache from
# one list operation to the next (bench/optimizers.py).
PIECE = 1 << 16


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
    """Of the parameters and their states, as they were laid out."""
    laid: Looks | None = field(init=False, default=None)
    """The same, asked of all at once."""
    looks: Looks | None = field(init=False, default=None)
    """Of the parameters and gradients when all was right."""
    held: Held | None = field(init=False, default=None)
    """What the states were then."""
    columns: list[list[Any]] = field(init=False)
    """The states by the chain's keys, of this step."""
    counted: int = field(init=False, default=0)
    """The version of `steps`, which tells an edit from outside; -1 in the inference mode, which has none."""
    steps: Tensor | None = field(init=False, default=None)
    views: list[Tensor] = field(init=False, default_factory=list["Tensor"])
    pieces: list[slice] = field(init=False)
    ks: list[Scalars] = field(init=False, default_factory=list["Scalars"])
    """The scalars of this step for every link."""
    apart: set[int] = field(init=False, default_factory=set[int])
    """Links that add up over a tensor: their scalars may be tensors with an entry for each parameter."""

    def __post_init__(self) -> None:
        self.owners = self.owners or self.params
        self.keys = self.chain.keys_of(self.params[0])
        self.pieces = _pieces(self.params) if self.chain.scope != "matrix" else alike(self.params)
        if self.programs is not None and not isinstance(self.programs, Own) and self.seats is None:
            pack_small(self.params, self.states, self.keys)
        self.tallies = pack_tally(self.states, self.tally, self.chain.common)
        # A link without an expression for lists takes its tensors one by one, and so does its whole chain.
        self.listed = all(type(link).eager is not Rule.eager for link in self.chain.links)
        if self.chain.counts:
            on_device = self.native is not None
            self.steps, self.views = pack_steps(
                self.states, self.params[0].device if on_device else torch.device("cpu")
            )
            self.counted = -1 if self.steps.is_inference() else self.steps._version
            self.one = torch.ones((), device=self.steps.device)  # torch makes a tensor of a number each time
        self.columns = self._columns()

    def gradients(self) -> list[Tensor] | None:
        """The gradients if they, the parameters and the states look as they did when the bucket was built,
        else None: then the checks of a first step stand.

        Any of them may be exchanged or edited between two steps, and kernels, torch's too, would then read
        and write what is not theirs.
        """
        if self.counted >= 0 and self.steps is not None and self.steps._version != self.counted:
            return None
        grads: list[Any] | None = self._found()
        same = self.looks is not None and self.looks.same([*self.params, *grads])
        if not (same and self.held is not None and self.held.same()):
            grads = self._looked_through(grads)
            if grads is None:
                return None
        return grads if self.kernel is None or self.kernel.fits(self.params, self.columns) else None

    def _looked_through(self, grads: list[Any]) -> list[Tensor] | None:
        """The gradients, each of which was looked at; copied where they must be; None if they do not fit."""
        columns = self._columns()
        if not self._counts_stand() or any(g is None for g in grads) or not self._as_laid_out(columns):
            return None
        taken = self._looked_at(grads)
        if taken is not None:
            self.looks = self.held = None
            if self.seats is None and all(map(operator.is_, taken, grads)):
                self.looks, self.held = Looks([*self.params, *grads]), Held(self.states)
            self.columns = columns
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
        """The gradients; copies of those that the backend cannot read; None where another layout is due."""
        for g, p in zip(grads, self.params, strict=True):
            if (g.layout, g.shape, g.dtype, g.device) != (p.layout, p.shape, p.dtype, p.device):
                return None
        taken = list(map(plain, grads))
        if self.native is not None and any(map(_lies_otherwise, taken, self.params)):
            return None
        return taken if self.programs is None else self._laid_out(taken)

    def taken(self) -> list[Tensor]:
        """The gradients; copied where they lie otherwise than a kernel that was asked for reads them."""
        return self.gradients() or self._laid_out(list(map(plain, self._found())))

    def _laid_out(self, grads: list[Any]) -> list[Tensor]:
        return [
            torch.empty_like(p).copy_(g) if _lies_otherwise(g, p) else g
            for p, g in zip(self.params, grads, strict=True)
        ]

    def _columns(self) -> list[list[Any]]:
        return [[state.get(key) for state in self.states] for key in self.keys]

    def _found(self) -> list[Any]:
        return [p.grad for p in self.owners] if self.seats is None else [s.gradient() for s in self.seats]

    def begin(self) -> None:
        """Starts a step: counts it and forms its scalars."""
        self.t += 1
        if self.steps is not None:
            self.steps.add_(self.one)
            self.counted = self.steps._version if self.counted >= 0 else -1
        if self.native is None:
            ks, self.tally = self.chain.advance(self._time(), self.tally)
            self.ks, self.apart = list(ks), set()

    def _time(self) -> int:
        return self.t if self.steps is not None else 1 if self.first else 2

    def measure(self, i: int, grads: list[Tensor]) -> list[Tensor]:
        """For each total that link `i` wants, a float64 tensor with an entry for each parameter."""
        kernel = self._kernel()
        if kernel is not None:
            return kernel.measure(i, grads, self.ks)
        peaks = self.chain.links[i].peak
        found: list[list[Tensor]] = []
        for n, g in enumerate(grads):
            sums: list[list[Tensor]] = []
            for p, part, before in self._cut(n, g):
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
        return [_entry(k, n) if i in self.apart else k for i, k in enumerate(self.ks)]

    def _kernel(self) -> Step | None:
        """The kernel, of which the driver has asked at this step whether it fits; None for other backends.

        One that cannot be made, and was not asked for, is said, and torch's operations step instead.
        """
        made = self.programs
        if self.kernel is None and made is not None:
            from downslope.optim.kernel.table import KernelStep

            looped = functools.partial(KernelStep, streams=self.streams)
            make = made.step if isinstance(made, Own) else functools.partial(looped, made)
            try:
                self.kernel = make(self.params, self.columns, maximize=self.maximize)
            except RecipeError as error:
                if self.reason == "asked for":
                    raise
                _log.warning("%s; torch's operations step instead", error)
                self.programs, self.backend = None, "eager"
        return self.kernel

    def _remembered(self, p: Tensor, state: State) -> list[tuple[Tensor, ...]]:
        return [link.remember(state[key] for key in link.keys_of(p)) for link in self.chain.links]

    def step(self, grads: list[Tensor]) -> None:
        """The step that has begun, by the bucket's backend."""
        kernel = self._kernel()
        if self.native is not None:
            self.native.run(self.params, grads, self.columns, self.views, self.first)
            torch.autograd.graph.increment_version(self.params)  # which torch's kernels leave out
        elif kernel is not None:
            kernel.update(self.params, grads, self.ks)
        elif self.backend == "eager" and self.listed and not self.apart:
            self._step_eager(grads)
        else:
            self._step_by_tensor(grads)
        self._end()

    def _end(self) -> None:
        for seat in self.seats or ():
            seat.done()
        for name, values in self.tallies.items():
            values.fill_(self.tally[name])
        self.first = False

    def _step_eager(self, grads: list[Tensor]) -> None:
        sign = -1.0 if self.maximize else 1.0
        for piece in self.pieces:
            lists = [each[piece] for each in (grads, self.params, *self.columns)]
            for part, params, *states in [lists] if self.chain.scope == "matrix" else _portions(lists):
                flow, rest = Flow(part, scale=sign), iter(states)
                for link, k in zip(self.chain.links, self.ks, strict=True):
                    held: Lists = list(itertools.islice(rest, len(link.keys)))
                    flow = link.eager(flow, held, params, k)
                flow.descend(params)

    def _step_by_tensor(self, grads: list[Tensor]) -> None:
        alone = len(self.chain.links) == 1 and self.backend == "eager"
        for n, (p, g, state) in enumerate(zip(self.params, grads, self.states, strict=True)):
            ks = self._scalars(n)
            if alone and self.chain.links[0].in_place(
                p, g, self._remembered(p, state)[0], ks[0], -1.0 if self.maximize else 1.0
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
        looks at a whole matrix or the rules shall be run as they are written.
        """
        p = self.params[n]
        before = self._remembered(p, self.states[n])
        whole = self.chain.scope == "matrix" or self.backend != "eager"
        lists = [[each] for each in (g, p, *itertools.chain.from_iterable(before))]
        for [part], [x], *states in [lists] if whole else _portions(lists):
            rest = (state for [state] in states)
            cut = [
                link.remember(itertools.islice(rest, len(old)))
                for link, old in zip(self.chain.links, before, strict=True)
            ]
            yield x, -part if self.maximize else part, cut


def _lies_otherwise(g: Tensor, p: Tensor) -> bool:
    return g.stride() != p.stride()


def total(part: Tensor, peak: bool) -> Tensor:
    """The sum of all elements, or the largest of them and 0, in float64."""
    if not peak:
        return part.sum(dtype=torch.float64)
    return part.amax().double() if part.numel() else part.new_zeros((), dtype=torch.float64)


def _entry(k: Scalars, n: int) -> Scalars:
    values = vars(k).items()
    return Scalars(**{name: v[n] if isinstance(v, Tensor) and v.ndim else v for name, v in values})


def flat(tensors: Sequence[Tensor]) -> list[Tensor] | None:
    """`tensors` as one row of elements each, if they are of one shape, lie alike in memory, and are large."""
    first = tensors[0]
    if first.numel() <= PIECE or not is_dense(first):
        return None
    if any(each.shape != first.shape or each.stride() != first.stride() for each in tensors[1:]):
        return None
    return [each.as_strided((each.numel(),), (1,)) for each in tensors]


def _portions(lists: list[list[Tensor]]) -> Iterator[list[list[Tensor]]]:
    """Lists of tensors as they are, or, of one large tensor each on the CPU, in pieces that a cache holds."""
    alone = len(lists[0]) == 1 and lists[0][0].device.type == "cpu"
    rows = flat([each[0] for each in lists]) if alone else None
    if rows is None:
        yield lists
        return
    for start in range(0, rows[0].numel(), PIECE):
        yield [[row[start : start + PIECE]] for row in rows]


def _pieces(params: list[Tensor]) -> list[slice]:
    pieces: list[slice] = []
    start = size = 0
    for i, p in enumerate(params):
        if size and size + p.numel() > PIECE:
            pieces.append(slice(start, i))
            start, size = i, 0
        size += p.numel()
    pieces.append(slice(start, len(params)))
    return pieces
