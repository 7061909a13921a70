"""How the parameters of one group are laid out for stepping: buckets of tensors that can be treated alike.

A bucket holds tensors of one device, dtype, backend, step count and age. Buckets are rebuilt whenever what
they were built from has changed: a parameter gained or lost its gradient, a gradient came with other strides,
a state was loaded. Between two rebuilds a step costs one look at every gradient.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.flow import Flow, Lists
from downslope.optim.native import Native
from downslope.optim.rule import Chain, Scalars

__all__ = ["Bucket", "is_dense", "pack_steps"]

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


@dataclass
class Bucket:
    """Tensors that are stepped together, and how."""

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
    strides: list[tuple[int, ...]] = field(init=False)
    steps: Tensor | None = field(init=False, default=None)
    views: list[Tensor] = field(init=False, default_factory=list["Tensor"])
    pieces: list[slice] = field(init=False)

    def __post_init__(self) -> None:
        self.strides = [p.stride() for p in self.params]
        self.keys = self.chain.keys
        self.pieces = _pieces(self.params)
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

    def step(self, grads: list[Tensor]) -> None:
        """One step by the bucket's backend."""
        self.t += 1
        if self.steps is not None:
            self.steps.add_(1.0)
        if self.native is not None:
            columns = [[state[key] for state in self.states] for key in self.keys]
            self.native.run(self.params, grads, columns, self.views, self.first)
        else:
            t = self.t if self.steps is not None else 1 if self.first else 2
            ks = self.chain.at(t)
            if self.backend == "eager":
                self._step_eager(grads, ks)
            else:
                self._step_reference(grads, ks)
        self.first = False

    def _step_eager(self, grads: list[Tensor], ks: tuple[Scalars, ...]) -> None:
        sign = -1.0 if self.maximize else 1.0
        for piece in self.pieces:
            params, states = self.params[piece], self.states[piece]
            flow = Flow(grads[piece], scale=sign)
            for link, k in zip(self.chain.links, ks, strict=True):
                columns: Lists = [[state[key] for state in states] for key in link.keys]
                flow = link.eager(flow, columns, params, k)
            flow.descend(params)

    def _step_reference(self, grads: list[Tensor], ks: tuple[Scalars, ...]) -> None:
        for p, g, state in zip(self.params, grads, self.states, strict=True):
            before = [link.remember(state[key] for key in link.keys) for link in self.chain.links]
            step, after = self.chain.update(-g if self.maximize else g, before, p, ks)
            p.sub_(step)
            for old, new in zip(before, after, strict=True):
                for tensor, value in zip(old, new, strict=True):
                    tensor.copy_(value)


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
        RecipeError: a state of another shape than its parameter, as from another model's state_dict.
    """
    found: list[tuple[State, bool]] = []
    for p in params:
        if not chain.keys and not chain.counts:
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
        _fit_to(p, state, chain.keys)
        found.append((state, born))
    return found


def _fit_to(p: Tensor, state: State, keys: tuple[str, ...]) -> None:
    for key in keys:
        value = state[key]
        if not isinstance(value, Tensor) or value.shape != p.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RecipeError(
                f"state {key!r} is {shape} for a parameter of shape {tuple(p.shape)}: it belongs to another "
                "model; load the state_dict that was saved with this one"
            )
        if value.stride() != p.stride() and is_dense(p):
            # Saved under another memory format: fused kernels would pair the wrong elements.
            state[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)
