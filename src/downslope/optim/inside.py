"""Which optimizer steps inside of which: whoever hears of a base's steps does not see who made them."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

__all__ = ["innermost", "looks_twice", "note", "wrapped"]

_AROUND: WeakKeyDictionary[torch.optim.Optimizer, tuple[type[Any], ...]] = WeakKeyDictionary()
"""What is inside of others to their classes, the outermost first."""


def note(wrapper: torch.optim.Optimizer) -> None:
    """Lets what is innermost in `wrapper` be known for one that is wrapped."""
    inner: Any = wrapper
    kinds: list[type[Any]] = []
    while hasattr(inner, "base_optimizer"):
        kind: type[Any] = type(inner)
        kinds.append(kind)
        inner = inner.base_optimizer
    if len(kinds) > len(_AROUND.get(inner, ())):
        _AROUND[inner] = tuple(kinds)


def innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """What makes the steps of `optimizer`: the base of a wrapper, else itself."""
    inner: Any = optimizer
    while hasattr(inner, "base_optimizer"):
        inner = inner.base_optimizer
    return inner


def wrapped(optimizer: torch.optim.Optimizer, name: str) -> str:
    """The name of what steps `optimizer`, whose own is `name`: ``"lookahead(adam)"`` of a base."""
    for kind in reversed(_AROUND.get(optimizer, ())):
        own = next(each for each in kind.__mro__ if "around" not in vars(each))
        name = f"{own.__name__.lower()}({name})"
    return name


def looks_twice(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a wrapper around it asks for the gradients of every step at two places, as SAM does."""
    return any(kind.needs_closure for kind in _AROUND.get(optimizer, ()))
