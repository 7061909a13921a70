"""How far back the gradient of a recurrence comes, in the steps that somebody's own loop takes.

A recurrence of torch is run once more on a few rows of its batch, with the gradients that arrived at its
outputs; of a cell in a loop those that arrive at its states are read. Asked in a few sampled steps. Nothing
is written, nothing is left in ``.grad``, and no random number of the loop's is drawn.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakSet, ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from downslope.core import batches
from downslope.core.modules import named_modules
from downslope.diagnosis.measure.lags import told
from downslope.terrain.recurrence.recurrence import SHORTEST

ROWS = 8
"""Rows of a batch with which a recurrence is run once more."""

LOOKS = 6
"""Sampled steps in which it is asked, at most."""


@dataclass(eq=False)
class _Pass:
    """What one forward pass of a recurrence leaves for its backward pass."""

    name: str
    module: ref[nn.Module]
    given: list[Any] = field(default_factory=list[Any])
    """Input and state of a whole recurrence, a few rows of them."""
    arrived: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    """Gradient of each output, or the squared size of the gradient at each step of a loop."""
    calls: int = 0


class Memory:
    """The looks at the first recurrence of a model."""

    def __init__(self) -> None:
        self._pass: _Pass | None = None
        self._found: list[dict[str, Any]] = []
        self._asked = 0
        self._known: WeakSet[nn.Module] = WeakSet()
        """Models without a recurrence."""

    def hooks(self, model: nn.Module) -> list[RemovableHandle]:
        """Before a forward pass that is looked at: hooks for this pass."""
        self._pass = None
        if self._asked >= LOOKS or model in self._known:
            return []
        for name, module in named_modules(model):
            if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
                self._pass = kept = _Pass(name or "model", ref(module))
                hook = _whole(kept) if isinstance(module, nn.RNNBase) else _step(kept)
                return [module.register_forward_hook(hook, with_kwargs=True)]
        self._known.add(model)
        return []

    def read(self) -> None:
        """After the backward pass, before the step."""
        with suppress(Exception):  # nothing we look at may end anybody's training
            self._read()

    def _read(self) -> None:
        kept, self._pass = self._pass, None
        module = None if kept is None else kept.module()
        if kept is None or module is None or not kept.arrived:
            return
        self._asked += 1
        if kept.given:
            profile = _again(cast("nn.RNNBase", module), kept)
        else:
            sizes = [kept.arrived.get(i) for i in range(kept.calls)]
            profile = torch.stack([torch.zeros(()) if each is None else each.cpu() for each in sizes]).sqrt()
        found = told(profile.detach().double().cpu(), [kept.name])
        if found is not None and bool(torch.isfinite(profile).all()):
            self._found.append(found)

    def measured(self) -> dict[str, Any] | None:
        """The fact ``reach`` of a watched run: the look at which most of the gradient came back.

        In the form of ``lags``, but not of the start alone: what a rate did to the weights is in it.
        """
        if not self._found:
            return None
        return max(self._found, key=lambda each: each["ratio"]) | {"watched": True}


def _whole(kept: _Pass) -> Any:
    """Keeps a few rows of what a recurrence is given, and of the gradients that come to what it gives."""

    def keep(module: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        given = args[0] if args else kwargs.get("input")
        if kept.calls or not isinstance(given, Tensor) or given.dim() != 3 or not module.training:
            return
        if given.shape[1 if module.batch_first else 0] < SHORTEST:
            return
        kept.calls = 1
        state = args[1] if len(args) > 1 else kwargs.get("hx")
        kept.given = [_rows(given, 0 if module.batch_first else 1), batches.map_tensors(_state_rows, state)]
        for number, made in enumerate(batches.tensors(output)):
            if made.requires_grad:
                made.register_hook(_arriving(kept, number, 1 if number or not module.batch_first else 0))

    return _quiet(keep)


def _arriving(kept: _Pass, number: int, axis: int) -> Any:
    def arriving(gradient: Tensor) -> None:
        kept.arrived[number] = _rows(gradient, axis)

    return _quiet(arriving)


def _quiet(hook: Any) -> Any:
    """`hook`, which must never end anybody's training, nor warn where its tensor is saved."""

    def quiet(*given: Any) -> None:
        with suppress(Exception):
            hook(*given)

    quiet.__torch_unserialize__ = True  # type: ignore[attr-defined]
    return quiet


def _step(kept: _Pass) -> Any:
    """Keeps the size of the gradients that come to the states of a cell, call by call."""

    def keep(module: nn.RNNCellBase, args: Any, kwargs: Any, output: Any) -> None:
        del module, args, kwargs
        at, kept.calls = kept.calls, kept.calls + 1

        def arriving(gradient: Tensor) -> None:
            size = gradient.detach().double().square().mean()
            kept.arrived[at] = kept.arrived[at] + size if at in kept.arrived else size

        for made in batches.tensors(output):
            if made.requires_grad:
                made.register_hook(_quiet(arriving))

    return _quiet(keep)


def _again(module: nn.RNNBase, kept: _Pass) -> Tensor:
    """Derivative by the input of each step, root mean square, of one more pass with the same gradients."""
    weight = next(module.parameters())
    devices = [weight.device] if weight.is_cuda else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        given = kept.given[0].to(weight.dtype).requires_grad_()
        state = batches.map_tensors(lambda each: each.to(weight.dtype), kept.given[1])
        made = batches.tensors(module.forward(given, state))
        there = [(made[i], g.to(made[i].dtype)) for i, g in kept.arrived.items()]
        (slope,) = torch.autograd.grad([o for o, _ in there], [given], [g for _, g in there])
    return slope.double().square().mean((0, 2) if module.batch_first else (1, 2)).sqrt()


def _rows(tensor: Tensor, axis: int) -> Tensor:
    return tensor.detach().narrow(axis, 0, min(ROWS, tensor.shape[axis])).clone()


def _state_rows(state: Tensor) -> Tensor:
    return _rows(state, 1) if state.dim() == 3 else state.detach().clone()
