"""How the parameters of one group are laid out for stepping: buckets of tensors that can be treated alike.

A bucket holds tensors of one device, dtype, chain, backend, step count, tally and age. Buckets are rebuilt
whenever what they were built from has changed: a parameter gained or lost its gradient, a gradient came with
other strides, a state was loaded. Between two rebuilds a step costs one look at every gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.flow import Flow, Lists
from downslope.optim.native import Native
from downslope.optim.rule import Chain, Rule, Scalars

__all__ = ["Bucket", "is_dense", "pack_steps", "pack_tally", "total"]

State = dict[str, Any]

# The eager backend works through pieces of about this many elements, so that a piece stays in the cache from
# one # list operation to the next (bench/optimizers.py).
PIECE = 1 << 16


def is_dense(p: Tensor) -> bool:
    """Whether `p` fills its memory without gaps or overlaps, so that kernels may read it as flat."""
    if p.is_contiguous():
        return True
    span = 1
    for stride, size in sorted(zip(p.stride(), p.shape, strict=True)):
        if size == 1:
            continue
        if stride != span:
            return False
        span *= size
    return True


def pack_steps(states: list[State], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Counts of steps in one tensor, so that one operation advances them all; each state gets its view."""
    packed = torch.tensor([float(state["step"]) for state in states], dtype=torch.float32, device=device)
    views = list(packed.unbind())
    for state, view in zip(states, views, strict=True):
        state["step"] = view
    return packed, views


def pack_tally(
    states: list[State], tally: dict[str, float], common: frozenset[str] = frozenset()
) -> dict[str, Tensor]:
    """The numbers of a tally, one tensor a name; each state gets its views, of what is `common` the whole."""
    packed: dict[str, Tensor] = {}
    for name, value in tally.items():
        if name in common:
            packed[name] = states[0][name]
            continue
        packed[name] = torch.full((len(states),), value, dtype=torch.float64)
        for state, view in zip(states, packed[name].unbind(), strict=True):
            state[name] = view
    return packed


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
    strides: list[tuple[int, ...]] = field(init=False)
    steps: Tensor | None = field(init=False, default=None)
    views: list[Tensor] = field(init=False, default_factory=list["Tensor"])
    pieces: list[slice] = field(init=False)
    ks: list[Scalars] = field(init=False, default_factory=list["Scalars"])
    """The scalars of this step for every link."""
    apart: dict[int, list[Scalars]] = field(init=False, default_factory=dict[int, "list[Scalars]"])
    """Of links that add up over a tensor, the scalars of each tensor."""

    def __post_init__(self) -> None:
        self.strides = [p.stride() for p in self.params]
        self.keys = self.chain.keys
        self.pieces = _pieces(self.params)
        self.tallies = pack_tally(self.states, self.tally, self.chain.common)
        # A link without an expression for lists takes its tensors one by one, and so does its whole chain.
        self.listed = all(type(link).eager is not Rule.eager for link in self.chain.links)
        if self.chain.counts:
            on_device = self.native is not None
            self.steps, self.views = pack_steps(
                self.states, self.params[0].device if on_device else torch.device("cpu")
            )

    def gradients(self) -> list[Tensor] | None:
        """The gradients if they look as they did when the bucket was built, else None."""
        grads: list[Any] = [p.grad for p in self.params]
        try:
            if [g.stride() for g in grads] == self.strides:
                return grads
        except (AttributeError, RuntimeError):  # None has no stride, nor has a sparse tensor
            return None
        return grads if self.native is None and all(g is not None for g in grads) else None

    def begin(self) -> None:
        """Starts a step: counts it and forms its scalars."""
        self.t += 1
        if self.steps is not None:
            self.steps.add_(1.0)
        if self.native is None:
            ks, self.tally = self.chain.advance(self._time(), self.tally)
            self.ks, self.apart = list(ks), {}

    def _time(self) -> int:
        return self.t if self.steps is not None else 1 if self.first else 2

    def measure(self, i: int, grads: list[Tensor]) -> list[Tensor]:
        """For each total that link `i` wants, a float64 tensor with an entry for each parameter."""
        found: list[list[Tensor]] = []
        for n, (p, g, state) in enumerate(zip(self.params, grads, self.states, strict=True)):
            parts = self.chain.measure(
                i, -g if self.maximize else g, self._remembered(state), p, self._scalars(n)
            )
            found.append(
                [total(part, peak) for part, peak in zip(parts, self.chain.links[i].peak, strict=True)]
            )
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
        k, _ = link.settle(self._time(), self.ks[i], named, own)
        columns = {
            name: value if isinstance(value, Tensor) and value.ndim else [value] * len(self.params)
            for name, value in vars(k).items()
        }
        self.apart[i] = [
            Scalars(**{name: column[n] for name, column in columns.items()}) for n in range(len(self.params))
        ]

    def _scalars(self, n: int) -> list[Scalars]:
        """The scalars of every link for parameter `n`."""
        return [self.apart[i][n] if i in self.apart else k for i, k in enumerate(self.ks)]

    def _remembered(self, state: State) -> list[tuple[Tensor, ...]]:
        return [link.remember(state[key] for key in link.keys) for link in self.chain.links]

    def step(self, grads: list[Tensor]) -> None:
        """The step that has begun, by the bucket's backend."""
        if self.native is not None:
            columns = [[state[key] for state in self.states] for key in self.keys]
            self.native.run(self.params, grads, columns, self.views, self.first)
        elif self.backend == "eager" and self.listed and not self.apart:
            self._step_eager(grads)
        else:
            self._step_by_tensor(grads)
        for name, values in self.tallies.items():
            values.fill_(self.tally[name])
        self.first = False

    def _step_eager(self, grads: list[Tensor]) -> None:
        sign = -1.0 if self.maximize else 1.0
        for piece in self.pieces:
            params, states = self.params[piece], self.states[piece]
            flow = Flow(grads[piece], scale=sign)
            for link, k in zip(self.chain.links, self.ks, strict=True):
                columns: Lists = [[state[key] for state in states] for key in link.keys]
                flow = link.eager(flow, columns, params, k)
            flow.descend(params)

    def _step_by_tensor(self, grads: list[Tensor]) -> None:
        for n, (p, g, state) in enumerate(zip(self.params, grads, self.states, strict=True)):
            before = self._remembered(state)
            step, after = self.chain.update(-g if self.maximize else g, before, p, self._scalars(n))
            p.sub_(step)
            for old, new in zip(before, after, strict=True):
                for tensor, value in zip(old, new, strict=True):
                    if tensor is not value:
                        tensor.copy_(value)


def total(part: Tensor, peak: bool) -> Tensor:
    """The sum of all elements, or the largest of them and 0, in float64."""
    if not peak:
        return part.sum(dtype=torch.float64)
    return part.amax().double() if part.numel() else part.new_zeros((), dtype=torch.float64)


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


def give_states(
    params: Iterable[Tensor], table: dict[Tensor, State], chain: Chain
) -> list[tuple[State, bool]]:
    """The state of every parameter, made where it is missing, and whether it was made now.

    Raises:
        RecipeError: a state of another shape than its parameter's, as from another model's state_dict.
    """
    found: list[tuple[State, bool]] = []
    for p in params:
        if not chain.keys and not chain.counts and not chain.tally:
            found.append(({}, False))
            continue
        state = table[p]
        born = False
        for link in chain.links:
            if all(key in state for key in link.keys):
                continue
            born = True
            fresh = zip(link.keys, link.init(p), strict=True)  # what is there stays: AMSGrad after Adam
            state.update({key: tensor for key, tensor in fresh if key not in state})
        if chain.counts and "step" not in state:
            state["step"] = torch.zeros(())
        for name, start in chain.tally.items():
            if name in chain.common:
                state[name] = _common(name, table, start)
            else:
                state.setdefault(name, torch.tensor(start, dtype=torch.float64))
        _fit_to(p, state, chain)
        found.append((state, born))
    return found


def _common(name: str, table: dict[Tensor, State], start: float) -> Tensor:
    """The one tensor that holds a number of all parameters: found at the first that has it, or made."""
    found = next((state[name] for state in table.values() if name in state), None)
    return torch.tensor(start, dtype=torch.float64) if found is None else found


def _fit_to(p: Tensor, state: State, chain: Chain) -> None:
    shapes = _shapes(p, chain)
    for key in chain.keys:
        value = state[key]
        if not isinstance(value, Tensor) or value.shape != shapes[key]:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RecipeError(
                f"state {key!r} is {shape} for a parameter of shape {tuple(p.shape)}: it belongs to another "
                "model; load the state_dict that was saved with this one"
            )
        if value.shape == p.shape and value.stride() != p.stride() and is_dense(p):
            # Saved under another memory format: fused kernels would pair the wrong elements.
            state[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)


def _shapes(p: Tensor, chain: Chain) -> dict[str, torch.Size]:
    """The shape that each state of `p` has: p's own unless a rule looks at more than its element."""
    if chain.scope == "element":
        return dict.fromkeys(chain.keys, p.shape)
    blank = torch.empty_like(p, device="meta")
    return {
        key: tensor.shape
        for link in chain.links
        for key, tensor in zip(link.keys, link.init(blank), strict=True)
    }
