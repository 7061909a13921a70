"""Backward passes between two steps whose gradient was cleared before any step used it.

Asked of one small parameter: at every pass but the first, is its gradient gone though no optimizer has
stepped and the parameter is what it was? A gradient for the inputs (adversarial examples), one that is copied
away and put together by hand, several losses of one graph, and a net that another one's loss goes through are
no such passes.
"""

from __future__ import annotations

import functools
from typing import Any, cast
from weakref import WeakSet, finalize, ref

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from downslope.diagnosis.between import hooked, quietly, removed
from downslope.diagnosis.leaves import leaves

LOOKED = 3
"""Passes between two steps whose graph is looked at for what the gradient is of."""

ALIGNED = 1e-5
"""Part of the step's gradient across that of the last pass, up to which it is that one, clipped perhaps.
Convention."""


class Passes:
    """The passes that reach one parameter from one step to the next.

    Args:
        parameter: It has a gradient.
        held: Ids of what the optimizer holds.
    """

    def __init__(self, parameter: Tensor, held: set[int]) -> None:
        self.count = self.unused = 0
        self.meant = False
        """Whether a gradient was asked for that is no matter of a step."""
        self._held, self._steps, self._looked = held, 0, 0
        self._value = parameter.detach().clone()
        self._last: Tensor | None = None
        self._fresh = False
        handles = _followed(parameter, self)
        self._end = finalize(self, _remove, handles)

    def begun(self, loss: Any, kept: bool) -> None:
        """A backward pass of `loss` begins; its graph is kept for another one, or not."""
        self.meant = self.meant or kept or not isinstance(loss, Tensor)
        if not self.meant and self._looked < LOOKED:
            self._looked += 1
            found = leaves(loss)
            self.meant = not all(id(each) in self._held or isinstance(each, nn.Parameter) for each in found)

    def arriving(self, parameter: Tensor) -> None:
        """A new gradient is about to be added."""
        found = parameter.grad
        self._fresh = found is None or not bool(found.any())

    def added(self, parameter: Tensor) -> None:
        """It was added."""
        value, found = parameter.detach(), parameter.grad
        if self.count and self._fresh and not self._steps and torch.equal(value, self._value):
            self.unused += 1
        self.count += 1
        self._steps = 0
        self._value = value.clone()
        self._last = None if found is None else found.detach().clone()

    def stepped(self) -> None:
        """Some optimizer stepped."""
        self._steps += 1

    def share(self, parameter: Tensor) -> float | None:
        """Share of the passes that no step used, after the step; None where that cannot be told."""
        found, last = parameter.grad, self._last
        if self.meant or not self._looked or found is None or last is None or last.numel() < 2:
            return None
        both = torch.stack([found.detach().flatten(), last.flatten()]).double()
        (whole, shared), (_, own) = cast("list[list[float]]", (both @ both.T).tolist())
        along = shared / max(own, 1e-300)
        if not whole - 2 * along * shared + along * along * own <= ALIGNED**2 * whole:
            return None
        return self.unused / self.count

    def drop(self) -> None:
        """Look no more."""
        _EARS.discard(self)
        self._end()


def _followed(parameter: Tensor, passes: Passes) -> list[RemovableHandle]:
    held = ref(passes)

    def stepped(optimizer: Any, args: Any, kwargs: Any) -> None:
        del optimizer, args, kwargs
        if (found := held()) is not None:
            found.stepped()

    _listen(passes)
    # Before a step, not after it: torch goes through the latter hooks while this is called.
    return [*hooked(parameter, passes), register_optimizer_step_pre_hook(stepped)]


_EARS: WeakSet[Passes] = WeakSet()
_ORIGINAL: list[Any] = []
"""`torch.autograd.backward` and what stands in its place, while anybody hears of it."""


def _listen(passes: Passes) -> None:
    _EARS.add(passes)
    if _ORIGINAL:
        return
    original = torch.autograd.backward

    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            kept = kwargs.get("retain_graph") or kwargs.get("create_graph") or any(args[1:3])
            for each in list(_EARS):
                quietly(each.begun, tensors, bool(kept))
        return original(tensors, *args, **kwargs)

    _ORIGINAL[:] = [original, backward]
    torch.autograd.backward = functools.wraps(original)(backward)
    _ORIGINAL[1] = torch.autograd.backward


def _rest() -> None:
    """Put it back where nobody hears; what somebody else has wrapped since stays theirs."""
    if _ORIGINAL and not any(True for _ in _EARS):
        original, wrapped = _ORIGINAL
        _ORIGINAL.clear()
        if torch.autograd.backward is wrapped:
            torch.autograd.backward = original


def _remove(handles: list[RemovableHandle]) -> None:
    removed(handles)
    _rest()
