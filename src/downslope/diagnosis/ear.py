"""Hears the losses of `torch.nn.functional` for a while: what they were called with, and what they gave.

The functions are wrapped while any ear is open, and put back when the last one closes or is forgotten. The
loss modules of torch call them, so that both are heard; a name that was imported before is not.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from downslope.diagnosis.taps import LOSSES

_SCALINGS = ("MulBackward0", "DivBackward0", "MeanBackward", "NegBackward0", "SumBackward")


class Call(NamedTuple):
    """A call of a loss function in training."""

    function: Any
    args: tuple[Any, ...]
    """Output and target first."""
    kwargs: dict[str, Any]
    value: Tensor
    seen: Any = None
    """What the output was, where nobody had looked at it before."""
    weights: Tensor | None = None
    """Of losses that were given one by one, what each counts in the sum that is trained."""

    @classmethod
    def of(cls, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> Self | None:
        """The call with output and target in front, as they may be given by name; None without tensors."""
        if len(args) < 2:  # by name: input=..., target=...
            kwargs = dict(kwargs)
            args = (*args, *(kwargs.pop(k) for k in ("input", "target")[len(args) :] if k in kwargs))
        if len(args) < 2 or not (isinstance(args[0], Tensor) and isinstance(args[1], Tensor)):
            return None
        if not isinstance(value, Tensor):
            return None
        return cls(function, args, kwargs, value)


def bound(call: Call) -> Any:
    """The loss function with all but output and target bound, as a mean where it gave a value each."""
    try:
        given = _signature(call.function).bind(*call.args, **call.kwargs).arguments
    except TypeError:
        return None
    rest = {key: value for key, value in list(given.items())[2:] if value is not None}
    if call.value.numel() != 1 or rest.get("reduction") == "none":
        rest["reduction"] = "mean"
    return functools.partial(call.function, **rest)


_signature = functools.lru_cache(maxsize=32)(inspect.signature)  # a third of a sampled step of a small model


def source(loss: Tensor, calls: list[Call]) -> Call | None:
    """The one call of a loss function that `loss` is the value of, but for a factor; None for a sum."""
    return next((call for call in reversed(calls) if call.value is loss or _scales(loss, call.value)), None)


def _scales(loss: Tensor, value: Tensor) -> bool:
    """Whether `loss` is `value`, its mean, or a multiple of it by a number."""
    node: Any = loss.grad_fn
    for _ in range(4):
        if node is None or node is value.grad_fn:
            return node is not None
        parents = [each for each, _ in node.next_functions if each is not None]
        if not type(node).__name__.startswith(_SCALINGS) or len(parents) != 1:
            return False
        node = parents[0]
    return False


class Ear:
    """Hears every call of a loss while it is open.

    Args:
        told: Handed every call that has output, target and a tensor as its value.
    """

    def __init__(self, told: Callable[[Call], None]) -> None:
        self.told = told
        self._end: Any = None

    def open(self) -> None:
        """Hear from now on; a second call changes nothing."""
        if self not in _EARS:
            _EARS.add(self)
            self._end = self._end or weakref.finalize(self, _rest)
            if not _OPEN:
                _wrap()

    def close(self) -> None:
        """Hear no more."""
        _EARS.discard(self)
        _rest()


_EARS: weakref.WeakSet[Ear] = weakref.WeakSet()
_WRAPPED: dict[str, tuple[Any, Any]] = {}
"""Function and wrapper, made once: code that was compiled with either is known again."""
_OPEN: set[str] = set()


def _wrap() -> None:
    for name in LOSSES:
        original = getattr(functional, name)
        if name not in _WRAPPED or _WRAPPED[name][0] is not original:
            _WRAPPED[name] = original, functools.wraps(original)(_heard(original))
        setattr(functional, name, _WRAPPED[name][1])
        _OPEN.add(name)


def _rest() -> None:
    """Put the functions back where nobody hears; what somebody else has wrapped since stays theirs."""
    if any(True for _ in _EARS):  # its length still counts ears that are being forgotten
        return
    while _OPEN:
        original, wrapped = _WRAPPED[name := _OPEN.pop()]
        if getattr(functional, name) is wrapped:
            setattr(functional, name, original)


def _heard(original: Any) -> Any:
    def scored(*args: Any, **kwargs: Any) -> Any:
        value = original(*args, **kwargs)
        if not torch.compiler.is_compiling():
            _tell(original, args, kwargs, value)
        return value

    return scored


def _tell(original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> None:
    try:
        call = Call.of(original, args, kwargs, value)
        if call is not None:
            for ear in list(_EARS):
                ear.told(call)
    except Exception:  # noqa: BLE001 (nothing we listen to may end anybody's training)
        return
