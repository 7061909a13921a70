"""Hooks on one parameter that tell of its gradient between two steps, and end nobody's training."""

from __future__ import annotations

from typing import Any, Protocol, cast
from weakref import ref

from torch import Tensor
from torch.utils.hooks import RemovableHandle


class Listener(Protocol):
    """What is told of one parameter."""

    def arriving(self, parameter: Tensor) -> None:
        """A new gradient is about to be added, or only asked for."""

    def added(self, parameter: Tensor) -> None:
        """It was added."""


def hooked(parameter: Tensor, listener: Listener) -> list[RemovableHandle]:
    """The hooks that tell `listener` of `parameter`; neither is kept alive by them."""
    held, whose = ref(listener), ref(parameter)

    def arriving(gradient: Tensor) -> None:
        del gradient
        found, of = held(), whose()
        if found is not None and of is not None:
            quietly(found.arriving, of)

    def added(of: Tensor) -> None:
        if (found := held()) is not None:
            quietly(found.added, of)

    # A tensor that is saved between two steps would warn of a hook that is not saved with it.
    arriving.__torch_unserialize__ = True  # type: ignore[attr-defined]
    return [parameter.register_hook(arriving), parameter.register_post_accumulate_grad_hook(added)]


def removed(handles: list[RemovableHandle]) -> None:
    """Take the hooks away."""
    while handles:
        handles.pop().remove()


def bared(parameter: Tensor) -> None:
    """Leave a parameter that carries no hook any more as one that never had any.

    Where hooks were once, torch calls Python for every gradient of it, some 3 us a step, to go through none.
    Not while torch is at the hooks of this parameter.
    """
    torn = cast("Any", parameter)
    for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        hooks = getattr(torn, name)
        if hooks is not None and not hooks:
            setattr(torn, name, None)


def quietly(what: Any, *given: Any) -> None:
    """Call `what`, whatever comes of it."""
    try:
        what(*given)
    except Exception:  # noqa: BLE001 (nothing we look at may end anybody's training)
        return
