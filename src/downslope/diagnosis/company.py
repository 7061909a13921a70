"""Batches of a watched loop, kept as its models were handed them, to ask whether examples are mixed.

Nothing is asked before a diagnosis is; then copies of the models are called, in eval mode.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.errors import ModelError
from downslope.diagnosis.compiled import plain_module
from downslope.diagnosis.measure.company import LEAST, Given, mixing, most

MODELS = 4
"""Models of one optimizer that are looked at, at most."""

BATCHES = 2
"""Batches that are kept of each: examples are exchanged for those of the other one."""

MOST = 500_000
"""Numbers that are kept of a batch."""

Sizes = Sequence[int]


@dataclass(frozen=True)
class _Kept:
    """One call of a model."""

    step: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sizes: Sizes
    """Of the first tensor it was handed, before rows were left out."""
    real: bool
    """Whether that holds floating numbers."""


class Company:
    """What the models of one optimizer were handed in some sampled steps."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[nn.Module], list[_Kept]]] = {}

    def note(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], step: int) -> None:
        """A call of a model in `step`."""
        if id(module) not in self._kept and len(self._kept) >= MODELS:
            return
        _, kept = self._kept.setdefault(id(module), (weakref.ref(module), []))
        if len(kept) >= BATCHES:
            return
        with contextlib.suppress(Exception):  # nothing we look at may end anybody's training
            if (found := _cut(args, dict(kwargs), step)) is not None:
                kept.append(found)

    def measure(self, targets: Mapping[int, Sizes]) -> dict[str, Any] | None:
        """What `mixing` tells of the first model that mixes examples, else of the first; None without any.

        Args:
            targets: Sizes of the targets by the step that they were heard in.

        Raises:
            ModelError: why it cannot be told.
        """
        found: list[dict[str, Any]] = []
        refused: ModelError | None = None
        for ref, kept in self._kept.values():
            module = ref()
            if module is None or not kept:
                continue
            try:
                found.append(_told(module, kept, targets))
            except ModelError as error:
                refused = refused or error
        if not found and refused is not None:
            raise refused
        return next((each for each in found if "by" in each), found[0] if found else None)


def _told(module: nn.Module, kept: Sequence[_Kept], targets: Mapping[int, Sizes]) -> dict[str, Any]:
    found = [(each, axis) for each in kept if (axis := axis_of(each, targets.get(each.step))) is not None]
    if not found:
        raise ModelError("which axis of the inputs the examples lie along cannot be told from the targets")
    one, axis = found[0]
    module = _bare(module)
    rows = most(module)
    given = _given(one, axis, rows)
    others = [_given(each, axis, rows) for each in kept if each is not one]
    same = [each for each in others if _sizes(each) == _sizes(given)]
    whole = any(_equal(each, given) for each in same)
    other = None if whole or not same else same[0]
    return mixing(module, given, other) | {"whole": whole, "watched": True}


def axis_of(kept: _Kept, target: Sizes | None) -> int | None:
    """The axis of the inputs that the targets say to be that of the examples; None where it may be another.

    A target for every step of a sequence says nothing: it may lie as (examples, steps) or the other way.
    """
    if not target or not kept.sizes:
        return None
    sizes, count = kept.sizes, target[0]
    if len(sizes) in (1, 2, 3) and not (len(sizes) < 3 and kept.real):
        places = [axis for axis, size in enumerate(sizes[:2]) if size == count]
        if len(places) != 1 or (len(target) > 1 and len(sizes) > 1 and target[1] == sizes[1 - places[0]]):
            return None
        return places[0]
    return 0 if sizes[0] == count else None


def _bare(module: nn.Module) -> nn.Module:
    """The model inside what spreads its batches over devices."""
    module = plain_module(module)
    return module.module if isinstance(module, nn.DataParallel) else module


def _given(kept: _Kept, axis: int, rows: int) -> Given:
    """The call with at most `rows` examples."""
    count = batches.tensors((kept.args, kept.kwargs))[0].shape[axis]
    rows = min(count, rows)

    def narrow(leaf: Tensor) -> Tensor:
        fits = leaf.dim() > axis and leaf.shape[axis] == count
        return leaf.narrow(axis, 0, rows) if fits else leaf

    args, kwargs = batches.map_tensors(narrow, (kept.args, kept.kwargs))
    return Given(args, kwargs, rows, axis)


def _cut(args: tuple[Any, ...], kwargs: dict[str, Any], step: int) -> _Kept | None:
    """The call on clones, without the rows that are too many to be kept; None where hardly any can be."""
    found = batches.tensors((args, kwargs))
    if not found or not found[0].dim() or any(each.is_sparse or each.is_nested for each in found):
        return None
    sizes = tuple(found[0].shape)
    numbers = sum(each.numel() for each in found)
    rows = sizes[0] if numbers <= MOST else sizes[0] * MOST // numbers
    if rows < min(LEAST, sizes[0]):
        return None

    def clone(leaf: Tensor) -> Tensor:
        fits = leaf.dim() and leaf.shape[0] == sizes[0]
        return (leaf.detach()[:rows] if fits else leaf.detach()).clone()

    cut, named = batches.map_tensors(clone, (args, kwargs))
    return _Kept(step, cut, named, sizes, found[0].is_floating_point())


def _sizes(given: Given) -> list[Sizes]:
    return [tuple(each.shape) for each in batches.tensors((given.args, given.kwargs))]


def _equal(one: Given, two: Given) -> bool:
    pairs = zip(*(batches.tensors((each.args, each.kwargs)) for each in (one, two)), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
