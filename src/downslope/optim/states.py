"""The states of parameters: made where they are missing, laid out as their rules declare, counts packed."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.kinds import PLAIN, Manner
from downslope.optim.looks import is_dense
from downslope.optim.rule import Chain
from downslope.optim.seats import Seat

__all__ = ["State", "give_state", "pack_small", "pack_steps", "pack_tally"]

State = MutableMapping[str, Any]


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


# A state of so few elements shares memory with others, of so many together: one that is saved alone drags no
# more than that along.
_SMALL, _PACK = 1 << 12, 1 << 16


def pack_small(params: Sequence[Tensor], states: Sequence[State], keys: Sequence[str]) -> None:
    """Moves the small states of many parameters, shaped and laid out as these, side by side in memory."""
    for key in keys:
        run: list[tuple[Tensor, State]] = []
        size = 0
        for p, state in zip(params, states, strict=True):
            value: Tensor = state[key]
            shared = value.untyped_storage().nbytes() != value.nbytes
            if shared or p.numel() > _SMALL or value.stride() != p.stride():
                continue
            if size + p.numel() > _PACK:
                _pack(run, key, size)
                run, size = [], 0
            run.append((p, state))
            size += p.numel()
        _pack(run, key, size)


def _pack(run: Sequence[tuple[Tensor, State]], key: str, size: int) -> None:
    if len(run) < 2:
        return
    whole = torch.empty(size, dtype=run[0][1][key].dtype, device=run[0][1][key].device)
    start = 0
    for p, state in run:
        state[key] = whole.as_strided(p.shape, p.stride(), start).copy_(state[key])
        start += p.numel()


def give_state(
    p: Tensor,
    table: MutableMapping[Tensor, State],
    chain: Chain,
    seat: Seat | None = None,
    manner: Manner = PLAIN,
) -> tuple[State, bool]:
    """The state of parameter `p`, made where it is missing, and whether it was made now.

    Args:
        p: the parameter.
        table: ``optimizer.state``.
        chain: its rules.
        seat: what they step in its place.
        manner: how it is stepped.

    Raises:
        RecipeError: a state of another shape than its parameter's, as from another model's state_dict.
    """
    if not (chain.keys_of(p) or chain.counts or chain.tally or manner.counts):
        return {}, False
    state, like = (table[p], p) if seat is None else (seat.state, seat.p)
    wide = manner.wide_state or manner.rounding == "master"
    born = False
    found = any(key in state for key in chain.keys_of(p))
    for link in chain.links:
        keys = link.keys_of(p)
        if all(key in state for key in keys):
            continue
        born = True
        fresh = zip(keys, link.init(like.float() if wide else like), strict=True)
        state.update({key: tensor for key, tensor in fresh if key not in state})  # AMSGrad after Adam
    if chain.counts and "step" not in state:
        state["step"] = torch.zeros(())
    for name, start in chain.tally.items():
        if name in chain.common:
            state[name] = _common(name, table, start)
        else:
            state.setdefault(name, torch.tensor(start, dtype=torch.float64))
    if manner.rounding == "stochastic" and "draws" not in state:
        state["draws"] = torch.zeros((), dtype=torch.int64)
    if manner.rounding == "master" and "master" not in state:
        state["master"] = p.detach().float()
    _fit_to(like, state, chain, torch.float32 if wide else like.dtype, checked=found)
    return state, born


def _common(name: str, table: MutableMapping[Tensor, State], start: float) -> Tensor:
    """The one tensor that holds a number of all parameters: found at the first that has it, or made."""
    found = next((state[name] for state in table.values() if name in state), None)
    return torch.tensor(start, dtype=torch.float64) if found is None else found


def _fit_to(p: Tensor, state: State, chain: Chain, dtype: torch.dtype, *, checked: bool) -> None:
    """Lays out states as `p`, and, if `checked`, in the shapes and dtypes that rules declare for `dtype`."""
    shaped = chain.scope == "element" or isinstance(traced(chain), Traced)
    alike = shaped and all(getattr(state[key], "dtype", dtype) == dtype for key in chain.keys_of(p))
    declared: dict[str, Tensor] = {}
    if checked and not alike:
        declared = _declared(torch.empty_like(p, device="meta", dtype=dtype), chain)
    for key in chain.keys_of(p):
        value: Any = state[key]
        wanted = declared.get(key, p) if checked else value
        if not isinstance(value, Tensor) or value.shape != wanted.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RecipeError(
                f"state {key!r} is {shape} for a parameter of shape {tuple(p.shape)}: it belongs to another "
                "model; load the state_dict that was saved with this one"
            )
        if not alike and value.dtype != wanted.dtype:
            state[key] = value = value.to(wanted.dtype)
        if value.device != p.device:
            raise RecipeError(
                f"state {key!r} is on {value.device}, its parameter on {p.device}: save the state_dict, move "
                "the model, then make the optimizer anew and load it"
            )
        if value.shape == p.shape and value.stride() != p.stride() and is_dense(p):
            # Saved under another memory format: fused kernels would pair the wrong elements.
            state[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)
        elif value.shape != p.shape and not value.is_contiguous():
            state[key] = value.contiguous()


def _declared(p: Tensor, chain: Chain) -> dict[str, Tensor]:
    """The states that the rules make of `p`, which is on the meta device."""
    made = (zip(link.keys_of(p), link.init(p), strict=True) for link in chain.links)
    return {key: tensor for pairs in made for key, tensor in pairs}
