"""Transforms of kornia and torchvision in the place of an augmentation. Neither is ever needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from downslope.augment.places import places_of
from downslope.core import batches
from downslope.core.errors import InputError, told


def adopted(given: Callable[..., Any]) -> Callable[[Any], Any]:
    """`given` as ``batch -> batch``: a transform of kornia or torchvision wrapped, anything else as it is."""
    libraries = {type(each).__module__.partition(".")[0] for each in _nested(given)}
    if "kornia" in libraries:
        return Kornia(given)
    if "torchvision" in libraries:
        mixing = any(type(each).__name__ in ("MixUp", "CutMix") for each in _nested(given))
        return WholeBatch(given) if mixing else EachExample(given)
    return given


@dataclass(frozen=True)
class Kornia:
    """A module of `kornia.augmentation` on the inputs of a batch; its draws are one for each example."""

    transform: Callable[..., Any]

    def __call__(self, batch: Any) -> Any:
        """The batch with its inputs changed; the target stays.

        Raises:
            InputError: the transform fails on the inputs.
        """
        places = places_of(batch)
        with torch.no_grad():
            made = _run(self.transform, places.inputs_of(batch))
        return places.put(batch, made, places.target_of(batch))

    def __str__(self) -> str:
        return _reference(self.transform)


@dataclass(frozen=True)
class EachExample:
    """A transform of torchvision, which makes one draw a call, called for every example by itself.

    It costs a Python call an example, so ours and kornia's are faster (bench/augment.py).
    """

    transform: Callable[..., Any]

    def __call__(self, batch: Any) -> Any:
        """The batch with its inputs changed; the target stays.

        Raises:
            InputError: the transform fails on the inputs.
        """
        places = places_of(batch)
        with torch.no_grad():
            made = torch.stack([_run(self.transform, each) for each in places.inputs_of(batch)])
        return places.put(batch, made, places.target_of(batch))

    def __str__(self) -> str:
        return _reference(self.transform)


@dataclass(frozen=True)
class WholeBatch:
    """A transform of torchvision that mixes examples, and so takes inputs and target of the whole batch."""

    transform: Callable[..., Any]

    def __call__(self, batch: Any) -> Any:
        """The batch with both changed.

        Raises:
            InputError: the transform fails on them.
        """
        places = places_of(batch)
        with torch.no_grad():
            inputs, target = _run(self.transform, places.inputs_of(batch), places.target_of(batch))
        return places.put(batch, inputs, target)

    def __str__(self) -> str:
        return _reference(self.transform)


def separate(batch: Any) -> Any:
    """A copy of `batch`, for a transform that may work in place on data that is kept."""
    return batches.map_tensors(Tensor.clone, batch)


def _run(transform: Callable[..., Any], *given: Any) -> Any:
    try:
        return transform(*given)
    except Exception as error:
        shapes = [tuple(each.shape) for each in given if isinstance(each, Tensor)]
        raise InputError(f"augment: {_reference(transform)} failed on {shapes}: {told(error)}") from error


def _nested(given: Any) -> Iterator[Any]:
    """`given` and the transforms in it."""
    yield given
    inner = list(given.children()) if isinstance(given, nn.Sequential) else []
    for each in inner or getattr(given, "transforms", ()):
        yield from _nested(each)


def _reference(transform: Any) -> str:
    kinds = [
        f"{type(each).__module__.partition('.')[0]}.{type(each).__name__}" for each in _nested(transform)
    ]
    return f"{kinds[0]}({', '.join(kinds[1:])})"
