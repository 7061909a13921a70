"""Modules that were called in training beside, or inside, the model that an optimizer trains.

Outermost ones hold no parameter of the optimizer: the other half of a model in two parts, a judge, a teacher,
features that are fixed. Loose ones are called inside the model and are registered nowhere in it, because a
plain list or dict holds them. Which of them anybody means to train is not seen here.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.modules import named_modules, own_parameters, size

MOST = 16
"""Modules of either kind that are noted."""

ENTRIES = 64
"""Entries of a plain list or dict that are looked through for what it hides."""

FEWEST = 32
"""Weights of a layer from which their distribution is told. Its deviation is then known to 8 %."""

_NORMS = (
    nn.modules.batchnorm._BatchNorm,  # pyright: ignore[reportPrivateUsage] (the only base of all batch norms)
    nn.LayerNorm,
    nn.GroupNorm,
)
_DENSE = (nn.Linear, nn.modules.conv._ConvNd)  # pyright: ignore[reportPrivateUsage] (the base of all convolutions)


class Strangers:
    """What an eye met of such modules.

    Attributes:
        outer: Outermost modules, with whether they were handed what the trained model gave.
        loose: Modules that were called inside the model though it does not have them.
        called: Whether any outermost one was called in training mode, those that are held fixed included.
    """

    def __init__(self) -> None:
        self.outer: list[tuple[weakref.ref[nn.Module], bool]] = []
        self.loose: list[weakref.ref[nn.Module]] = []
        self.called = False
        self._inner: set[int] = set()

    def meet(self, module: nn.Module, args: Any, after: bool) -> None:
        """Before the call of a module that holds no parameter of the optimizer.

        Args:
            module: The module.
            args: What it is called with.
            after: Whether the model was called before it in this step.
        """
        self.called = True
        if self._new(module, self.outer):
            made = after and any(each.grad_fn is not None for each in batches.tensors(args))
            self.outer.append((weakref.ref(module), made))

    def inside(self, module: nn.Module, known: Mapping[int, Any]) -> None:
        """Before the call of a module while the model is called.

        Args:
            module: The module.
            known: Ids of the modules that the model has.
        """
        if id(module) not in known and module.training and self._new(module, self.loose):
            self.loose.append(weakref.ref(module))

    def _new(self, module: nn.Module, found: list[Any]) -> bool:
        if len(found) >= MOST or id(module) in self._inner:
            return False
        if not any(p.requires_grad for p in module.parameters()):
            return False
        self._inner.update(id(each) for each in module.modules())
        return True

    def left(self, model: nn.Module) -> Iterator[tuple[str, list[nn.Parameter], bool]]:
        """What `model` uses and does not have: how to call it, its parameters, whether it looks untrained."""
        registered = {id(each) for each in model.modules()} | {id(p) for p in model.parameters()}
        hidden = dict(_hidden(model)) if self.loose or _holds_any(model) else {}
        for held in self.loose:
            module = held()
            if module is not None and id(module) not in registered:
                name, _ = hidden.get(id(module), ("", None))
                yield _called(name, module), list(module.parameters()), untrained(module)
        for name, each in hidden.values():
            if isinstance(each, nn.Parameter) and id(each) not in registered:
                yield f"{name} (Parameter {'x'.join(map(str, each.shape))})", [each], True


def untrained(module: nn.Module) -> bool:
    """Whether the weights of a module are as they were made, as far as that can be told.

    Training leaves no bias exactly 0, no scale of a normalisation exactly 1, and few matrices as uniform and
    as narrow as torch makes them (1 / sqrt(inputs) at most, a deviation of that in sqrt(3)).
    """
    found = [_as_made(each) for each in module.modules() if own_parameters(each)]
    return True in found and False not in found


def _as_made(layer: nn.Module) -> bool | None:
    """The same of one layer; None where nothing is known of its kind."""
    weight, bias = cast("Any", getattr(layer, "weight", None)), cast("Any", getattr(layer, "bias", None))
    if isinstance(layer, nn.RNNBase):
        weight, bias = cast("Any", layer.weight_hh_l0), None
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return None
    with torch.no_grad():
        if isinstance(layer, _NORMS):
            return bool((weight == 1).all()) and not (isinstance(bias, Tensor) and bool(bias.any()))
        if not isinstance(layer, (*_DENSE, nn.RNNBase)):
            return None
        if isinstance(bias, Tensor) and not bool(bias.any()):
            return True
        bound = 1 / math.sqrt(max(1, weight[0].numel()))
        if weight.numel() < FEWEST:
            return None
        narrow = float(weight.abs().max()) <= 1.0001 * bound
        even = abs(float(weight.float().std()) * math.sqrt(3) / bound - 1) < 2 / math.sqrt(weight.numel())
        return narrow and even


def described(module: nn.Module) -> str:
    """A module in words: its class, with the first and the last of its layers and their sizes."""
    layers = [f"{type(each).__name__} {size(each)}" for _, each in named_modules(module) if size(each)]
    if not size(module) and layers:
        ends = layers[:1] + layers[1:][-1:]
        return f"{type(module).__name__} ({' to '.join(ends)})"
    return f"{type(module).__name__} {size(module)}".strip()


def _called(name: str, module: nn.Module) -> str:
    return f"{name} ({described(module)})" if name else described(module)


def _holds_any(model: nn.Module) -> bool:
    """Whether any attribute of the model is a plain list, tuple or dict at all."""
    return any(isinstance(each, (list, tuple, dict)) for _, _, each in _attributes(model))


def _hidden(model: nn.Module) -> Iterator[tuple[int, tuple[str, Any]]]:
    """Modules and parameters in plain lists and dicts of the model, by id, with how they are reached."""
    for prefix, name, value in _attributes(model):
        yield from _found(f"{prefix}{name}", value, 2)


def _attributes(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    for prefix, module in named_modules(model):
        for name, value in vars(module).items():
            if not name.startswith("_"):
                yield f"{prefix}." if prefix else "", name, value


def _found(name: str, value: Any, deep: int) -> Iterator[tuple[int, tuple[str, Any]]]:
    if isinstance(value, (nn.Module, nn.Parameter)):
        yield id(value), (name, value)
    elif deep and isinstance(value, (list, tuple, dict)):
        held = cast("Any", value)
        pairs: Any = held.items() if isinstance(value, dict) else enumerate(held)
        for _, (key, each) in zip(range(ENTRIES), pairs, strict=False):
            yield from _found(f"{name}[{key!r}]", each, deep - 1)
