"""The Jacobian of a late state of a recurrence by an early one, lag by lag.

``ds_T/ds_t = prod_{s=t+1..T} ds_s/ds_{s-1}``, the last factor on the left: the product grows on its right,
one step further back at a time, by a vector-Jacobian product for each of its rows. Rows are not run one after
the other: every sequence is repeated as often as its state has numbers, and one backward pass gives a whole
matrix.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from downslope.core import batches
from downslope.core.errors import ModelError
from downslope.terrain.recurrence.recurrence import Pass, batch_first

ROWS = 4096
"""Repeated sequences that go through a module at once."""

_PLAIN: dict[str, Callable[..., nn.RNNBase]] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


class Given(NamedTuple):
    """What a recurrence of torch is given."""

    x: Tensor
    """Inputs, (steps, sequences, inputs)."""
    state: tuple[Tensor, ...] | None
    """Where it starts, (layers, sequences, units) each; None for zeros."""


def given_to(made: Pass, name: str, sequences: int) -> Given | None:
    """What the recurrence `name` is given in a pass; the longest `sequences`, cut to the shortest of them.

    None where it is not called, or called on anything but (sequences, steps, inputs).
    """
    module = cast("nn.RNNBase", made.model.get_submodule(name))
    kept: list[tuple[Any, Any]] = []

    def keep(each: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        del each
        if not kept:
            inputs = args[0] if args else kwargs.get("input")
            kept.append((inputs, args[1] if len(args) > 1 else kwargs.get("hx")))

    with torch.no_grad():
        made.run([module.register_forward_pre_hook(keep, with_kwargs=True)])
    if not kept:
        return None
    inputs, state = kept[0]
    state = (state,) if isinstance(state, Tensor) else state
    if isinstance(inputs, PackedSequence):
        x, lengths = pad_packed_sequence(inputs)
        rows = lengths.argsort(descending=True, stable=True)[:sequences]
        x = x[: int(lengths[rows].min())]
    elif isinstance(inputs, Tensor) and inputs.dim() == 3:
        x = inputs.transpose(0, 1) if batch_first(module) else inputs
        rows = torch.arange(min(sequences, x.shape[1]))
    else:
        return None
    rows = rows.to(x.device)
    kept_state = None if state is None else tuple(each[:, rows].detach() for each in state)
    return Given(x[:, rows].detach(), kept_state)


def of_whole(module: nn.RNNBase, given: Given, lags: Sequence[int]) -> Tensor:
    """Singular values of ``ds_T/ds_t`` of a recurrence of torch, in float64; s is all it hands on.

    Of a bidirectional one the forward direction of the first layer is followed.

    Args:
        module: RNN, LSTM or GRU.
        given: Its inputs.
        lags: T - t, ascending from 0 on, each below the number of steps.

    Returns:
        Shape (sequences, lags, numbers in a state), descending. What is below 1e-16 of the largest is
        rounding.
    """
    stepper = _one_way(module)
    states = _states(stepper, given)
    rows = _flat(states[-1])
    n, d = rows.shape
    product = torch.eye(d, dtype=torch.float64, device=rows.device).expand(n, d, d).contiguous()
    scale = torch.zeros(n, dtype=torch.float64, device=rows.device)
    found = torch.empty(n, len(lags), d, dtype=torch.float64)
    for lag in range(lags[-1] + 1):
        if lag:
            at = len(states) - lag - 1
            product = _back(stepper, given.x[at + 1].double(), states[at], product)
            size = product.flatten(1).abs().amax(1)
            size = torch.where((size > 0) & size.isfinite(), size, torch.ones_like(size))
            product, scale = product / size[:, None, None], scale + size.log()
        if lag in lags:
            found[:, lags.index(lag)] = (_singular(product) * scale.exp()[:, None]).cpu()
    return found


def _one_way(module: nn.RNNBase) -> nn.RNNBase:
    """A copy in float64 that takes one step at a time, (1, sequences, inputs), in one direction."""
    if not module.bidirectional:
        made = copy.deepcopy(module)
    else:
        kind, _, bend = module.mode.partition("_")
        options: dict[str, Any] = {"nonlinearity": bend.lower()} if bend else {}
        options |= {"proj_size": module.proj_size} if module.proj_size else {}
        made = _PLAIN[kind](module.input_size, module.hidden_size, **{"bias": module.bias} | options)
        made.load_state_dict({name: getattr(module, name).detach() for name, _ in made.named_parameters()})
        made.to(next(module.parameters()).device)
    made.batch_first = False
    return made.double().eval().requires_grad_(False)


def _states(stepper: nn.RNNBase, given: Given) -> list[tuple[Tensor, ...]]:
    """The state after each step."""
    state: tuple[Tensor, ...] | None = None
    if given.state is not None:
        state = tuple(each[: stepper.num_layers].double() for each in given.state)
    states: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for x in given.x.double():
            state = _stepped(stepper, x, state)
            states.append(state)
    return states


def _stepped(stepper: nn.RNNBase, x: Tensor, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    start: Any = state
    if state is not None and len(state) == 1:
        (start,) = state
    with torch.backends.cudnn.flags(enabled=False):
        after = stepper(x[None], start)[1]
    return (after,) if isinstance(after, Tensor) else tuple(after)


def _flat(state: Sequence[Tensor]) -> Tensor:
    """The numbers of each sequence's state in a row, (sequences, numbers)."""
    return torch.cat([each.transpose(0, 1).flatten(1) for each in state], 1)


def _back(stepper: nn.RNNBase, x: Tensor, before: tuple[Tensor, ...], product: Tensor) -> Tensor:
    """``product @ d(state after x)/d(before)`` for each sequence."""
    n, d, _ = product.shape
    made: list[Tensor] = []
    for rows in torch.arange(n * d).split(max(ROWS // d, 1) * d):
        rows = rows.to(x.device)
        which = rows // d
        leaves = tuple(each[:, which].requires_grad_() for each in before)
        after = _flat(_stepped(stepper, x[which], leaves))
        slopes = torch.autograd.grad(after, leaves, product.flatten(0, 1)[rows])
        made.append(_flat(slopes))
    return torch.cat(made).reshape(n, d, d)


def of_loop(made: Pass, name: str, sequences: int, lags: Sequence[int], calls: int) -> Tensor:
    """Singular values of ``ds_T/ds_t`` of a module that is called step after step; s is all it gives.

    Args:
        made: The model and its inputs.
        name: Of the module.
        sequences: How many of the inputs' examples count.
        lags: As in `of_whole`.
        calls: Times that it is called in a pass.

    Returns:
        As `of_whole`, in the precision of the model: below 1e-7 of the largest float32 is rounding.
    """
    module = made.model.get_submodule(name)
    n = min(sequences, batches.length((made.args, made.kwargs)))
    d, at = 1, 0
    chosen = calls - 1 - torch.tensor(lags)
    blocks: list[Tensor] = []
    while at < d:
        count = min(d - at, max(ROWS // n, 1)) if blocks else 1  # how many there are the first pass says
        slopes, d = _rows_of_loop(made, module, chosen, n, (at, count))
        blocks.append(slopes)
        at += count
    jacobians = torch.cat(blocks, 2)  # (lags, sequences, rows, numbers)
    return _singular(jacobians.double()).transpose(0, 1).cpu()


def _rows_of_loop(
    made: Pass, module: nn.Module, chosen: Tensor, n: int, which: tuple[int, int]
) -> tuple[Tensor, int]:
    """Some rows of the Jacobian of the last state by those of the `chosen` calls, and how many there are."""
    at, count = which
    leaves: dict[int, list[Tensor]] = {}
    last: list[Tensor] = []
    called = [0]

    def nudge(each: nn.Module, given: Any, output: Any) -> Any:
        del given
        now, called[0] = called[0], called[0] + 1
        if now not in chosen:
            return None
        output, leaves[now], states = _nudged(each, output)
        last[:] = states
        return output

    rows = torch.arange(n).repeat_interleave(count)
    made.run([module.register_forward_hook(nudge)], rows)
    ends = _rows(module, last)
    if len(ends) != len(rows):
        raise ModelError(
            f"the recurrence gives {len(ends)} states for {len(rows)} sequences: one each is needed"
        )
    picked = ends[torch.arange(len(rows)), at + torch.arange(len(rows)) % count].sum()
    flat = [leaf for now in chosen.tolist() for leaf in leaves[now]]
    slopes = iter(torch.autograd.grad(picked, flat, allow_unused=True, materialize_grads=True))
    found = [_rows(module, [next(slopes) for _ in leaves[now]]) for now in chosen.tolist()]
    return torch.stack(found).reshape(len(chosen), n, count, -1), ends.shape[1]


def _nudged(module: nn.Module, output: Any) -> tuple[Any, list[Tensor], list[Tensor]]:
    """An output, every state in it with a zero added to take a derivative by; the zeros, the sums."""
    leaves: list[Tensor] = []
    states: list[Tensor] = []

    def add(each: Tensor) -> Tensor:
        if not each.is_floating_point():
            return each
        leaves.append(torch.zeros_like(each, requires_grad=True))
        states.append(each + leaves[-1])
        return states[-1]

    if isinstance(module, nn.RNNBase):  # what it gives of each step is no part of what it hands on
        return (output[0], batches.map_tensors(add, output[1])), leaves, states
    return batches.map_tensors(add, output), leaves, states


def _rows(module: nn.Module, states: Sequence[Tensor]) -> Tensor:
    """The numbers of each sequence's state in a row."""
    return (
        _flat(states)
        if isinstance(module, nn.RNNBase)
        else torch.cat([each.flatten(1) for each in states], 1)
    )


def _singular(matrices: Tensor) -> Tensor:
    """Singular values, descending; NaN where a matrix is not finite."""
    finite = matrices.flatten(-2).isfinite().all(-1)
    linalg: Any = torch.linalg
    values: Tensor = linalg.svdvals(
        torch.where(finite[..., None, None], matrices, torch.zeros_like(matrices))
    )
    return torch.where(finite[..., None], values, torch.full_like(values, torch.nan))


def radii(module: nn.Module) -> dict[str, float]:
    """Spectral radius of each square recurrent weight: the largest absolute value of its eigenvalues.

    Of an LSTM and a GRU the weight of each gate by itself, in torch's order.
    """
    gates = {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new")}
    kind = str(getattr(module, "mode", type(module).__name__.removesuffix("Cell")))
    found: dict[str, float] = {}
    for name, weight in module.named_parameters():
        if not name.startswith("weight_hh"):
            continue
        parts = gates.get(kind, ("",))
        for gate, part in zip(parts, weight.detach().double().cpu().chunk(len(parts)), strict=True):
            if part.shape[0] == part.shape[1] and bool(part.isfinite().all()):
                linalg: Any = torch.linalg
                found[f"{name} {gate}".strip()] = float(linalg.eigvals(part).abs().max())
    return found
