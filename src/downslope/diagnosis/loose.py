"""Parameters that no module holds, as modules: named as the script names them, each bias with its weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn

DEPTH = 3
"""Lists, dicts and objects within one another in which names of parameters are looked for."""

ENTRIES = 256
"""Entries of each that are looked at."""


class Weights(nn.Module):
    """A leaf tensor of a script, and the bias that is added to what it makes."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.rows: Callable[[Tensor], Tensor] | None = None
        self.hold("weight", weight)

    def hold(self, name: str, tensor: Tensor) -> None:
        """Hold any leaf, a parameter or not."""
        own = cast("dict[str, Any]", self._parameters)  # pyright: ignore[reportPrivateUsage] (it takes any leaf)
        own[name] = tensor

    def as_rows(self, weight: Tensor) -> Tensor:
        """`weight` with one row for each unit, where it is known which axis they are on."""
        return weight.flatten(1) if self.rows is None else self.rows(weight)

    def sized(self, rows: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
        """It is a layer, of `shape` (units, inputs) by `rows`."""
        self.rows = rows
        self.out_features, self.in_features = shape


class Loose(nn.Module):
    """Tensors of a script that no module holds, each as the weights of a module of its name.

    Args:
        tensors: Name to leaf tensor.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.add_module(name, Weights(tensor))

    def holding(self, tensor: Tensor) -> tuple[str, Weights]:
        """Name and module of what holds `tensor`.

        Raises:
            KeyError: nothing does.
        """
        for name, held in self._held():
            if any(each is tensor for each in held.parameters()):
                return name, held
        raise KeyError(tuple(tensor.shape))

    def join(self, weight: Tensor, bias: Tensor) -> None:
        """Hold `bias` beside `weight`, as a layer does; not where either has company already."""
        (_, held), (name, alone) = self.holding(weight), self.holding(bias)
        if held is not alone and len(list(held.parameters())) == len(list(alone.parameters())) == 1:
            held.hold("bias", bias)
            delattr(self, name)

    def exchange(self, new: Mapping[int, Tensor]) -> None:
        """Hold other tensors in the places of those of these ids."""
        for _, held in self._held():
            for name, tensor in list(held.named_parameters()):
                held.hold(name, new.get(id(tensor), tensor))

    def _held(self) -> Iterator[tuple[str, Weights]]:
        return ((name, each) for name, each in self.named_children() if isinstance(each, Weights))


def named(tensors: list[Tensor]) -> dict[str, Tensor]:
    """Tensors by the names of the script's global variables, of others by number and shape.

    What a list, a dict or an object of the script holds goes by its place there: ``params[0]``.
    """
    wanted = {id(each) for each in tensors}
    known: dict[int, str] = {}
    frame: Any = sys._getframe(1)  # pyright: ignore[reportPrivateUsage] (there is no public way that is cheap)
    while frame is not None and frame.f_globals.get("__name__") != "__main__":
        frame = frame.f_back
    if frame is not None:
        own = cast("dict[str, Any]", frame.f_globals)
        public = {name: value for name, value in list(own.items()) if not name.startswith("_")}
        for depth in range(DEPTH + 1):
            for name, value in public.items():
                _note(name, value, depth, wanted, known)
    found: dict[str, Tensor] = {}
    for number, each in enumerate(tensors, 1):
        name = known.get(id(each)) or f"parameter {number} {tuple(each.shape)}"
        found[name if name not in found else f"{name} {number}"] = each
    return found


def _note(name: str, value: Any, depth: int, wanted: set[int], known: dict[int, str]) -> None:
    """Note the name of what is wanted, `depth` containers down."""
    if depth == 0:
        if isinstance(value, Tensor) and id(value) in wanted:
            known.setdefault(id(value), name)
        return
    for place, each in _entries(name, value):
        _note(place, each, depth - 1, wanted, known)


def _entries(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a container of the script holds; a module's name takes no dot."""
    if isinstance(value, (list, tuple)):
        for i, each in enumerate(cast("list[Any]", value)[:ENTRIES]):
            yield f"{name}[{i}]", each
    elif isinstance(value, dict):
        for key, each in list(cast("dict[Any, Any]", value).items())[:ENTRIES]:
            yield f"{name}[{str(key).replace('.', '_')}]", each
    elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
        own = cast("dict[str, Any]", value.__dict__)
        for key, each in list(own.items())[:ENTRIES]:
            yield key, each
