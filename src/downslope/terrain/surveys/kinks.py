"""Where a loss has no second derivative: kinks of activations and objectives, and whether one is stood on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from downslope.core.memory import out_of_memory

ROUNDING = 4
"""Units in the last place, of the largest entry, within which an entry counts as at a kink."""


class Kinks(NamedTuple):
    """What one look met."""

    at: int
    """Entries within rounding of a kink."""
    entries: int
    """Entries that went into functions with kinks."""
    names: tuple[str, ...]
    """Those functions."""

    def told(self) -> str | None:
        """A sentence, where a kink is stood on."""
        if not self.at:
            return None
        return (
            f"{self.at} of {self.entries} entries that went into {' and '.join(self.names)} lie within "
            "rounding of a kink, where there is no second derivative: curvature is that of one of its sides"
        )


def kinks(look: Callable[[], object]) -> Kinks:
    """Count what stands at a kink in one evaluation, as far as memory goes.

    Args:
        look: Evaluates the loss.
    """
    seen = _Seen()
    try:
        with torch.enable_grad(), seen:  # an objective may take derivatives of its own
            look()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    return Kinks(seen.at, seen.entries, tuple(sorted(seen.names)))


def _zero(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    del kwargs
    return [(args[0], 0.0)]


def _relu6(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    del kwargs
    return [(args[0], 0.0), (args[0], 6.0)]


def _hardtanh(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    low, high = (*args[1:3], kwargs.get("min_val", -1.0), kwargs.get("max_val", 1.0))[:2]
    return [(args[0], float(low)), (args[0], float(high))]


def _difference(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    del kwargs
    return [(args[0] - args[1], 0.0)]


def _of_two(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    """The larger or smaller of two tensors, or of the entries of one."""
    values, *rest = args
    other = rest[0] if rest else kwargs.get("other")
    if isinstance(other, Tensor):
        return [(values - other, 0.0)]
    if rest or kwargs or values.numel() < 2:
        return []
    best, second = values.detach().flatten().sort(descending=True).values[:2]
    return [(best - second, 0.0)]


def _least_of_two(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    return _of_two((-args[0], *args[1:]), kwargs) if len(args) == 1 else _of_two(args, kwargs)


def _length(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    linalg: Any = torch.linalg
    return [(linalg.vector_norm(args[0].detach(), dim=kwargs.get("dim")), 0.0)]


def _clamped(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[Tensor, float]]:
    ends = (*args[1:3], kwargs.get("min"), kwargs.get("max"))
    return [(args[0], float(end)) for end in ends if isinstance(end, (int, float))]


_KNOWN: dict[Any, tuple[str, Callable[..., list[tuple[Tensor, float]]]]] = {
    functional.relu: ("relu", _zero), torch.relu: ("relu", _zero), torch.relu_: ("relu", _zero),
    Tensor.relu: ("relu", _zero), Tensor.relu_: ("relu", _zero),
    functional.leaky_relu: ("leaky_relu", _zero), functional.prelu: ("prelu", _zero),
    functional.relu6: ("relu6", _relu6), functional.hardtanh: ("hardtanh", _hardtanh),
    torch.abs: ("abs", _zero), Tensor.abs: ("abs", _zero), Tensor.__abs__: ("abs", _zero),
    torch.sqrt: ("sqrt", _zero), Tensor.sqrt: ("sqrt", _zero),
    torch.maximum: ("maximum", _difference), Tensor.maximum: ("maximum", _difference),
    torch.minimum: ("minimum", _difference), Tensor.minimum: ("minimum", _difference),
    torch.max: ("max", _of_two), Tensor.max: ("max", _of_two),
    torch.min: ("min", _least_of_two), Tensor.min: ("min", _least_of_two),
    torch.norm: ("norm", _length), Tensor.norm: ("norm", _length),
    torch.linalg.norm: ("norm", _length), torch.linalg.vector_norm: ("norm", _length),
    torch.clamp: ("clamp", _clamped), Tensor.clamp: ("clamp", _clamped),
    functional.l1_loss: ("l1_loss", _difference),
}  # fmt: skip


class _Seen(TorchFunctionMode):
    """Reads the arguments of functions with kinks, at any depth of a model or objective."""

    def __init__(self) -> None:
        super().__init__()
        self.at = self.entries = 0
        self.names: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        known = _KNOWN.get(func)
        if known is not None:
            self._count(known, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _count(self, known: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        name, read = known
        self.names.add(name)
        for values, kink in read(args, kwargs):
            scale = max(float(values.detach().abs().max()), abs(kink)) if values.numel() else 0.0
            near = ROUNDING * torch.finfo(values.dtype).eps * scale if values.is_floating_point() else 0.0
            self.at += int(((values.detach() - kink).abs() <= near).sum())
            self.entries += values.numel()
