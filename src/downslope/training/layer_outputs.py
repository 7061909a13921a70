"""Outputs of a model's layers as tables of features: which layers, and how an output becomes a row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core import batches
from downslope.core.batches import Split
from downslope.core.errors import ModelError
from downslope.core.names import did_you_mean
from downslope.training.evaluate import evaluating

BATCH = 256
"""Examples a forward pass."""

HELD = 256 * 2**20
"""Bytes of features that are held at once; layers beyond it take a forward pass more."""

_SILENT = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
           nn.AlphaDropout, nn.FeatureAlphaDropout)  # fmt: skip
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_ALONG = (nn.Conv1d, nn.ConvTranspose1d)


class Features(NamedTuple):
    """What one layer gives."""

    values: Tensor
    """Shape (rows, features), float32, on the CPU."""
    shape: tuple[int, ...]
    """Shape of its output for one example."""


def layers_of(model: nn.Module, wanted: str | Sequence[str] | None = None) -> list[str]:
    """Qualified names of the layers to look at, in the order of their definition.

    Args:
        model: any module.
        wanted: names or patterns in which ``*`` is any text. None takes every module without children, but
            a block whose class occurs more than once as a whole (a residual block, a transformer's block);
            dropout and flattening, which change nothing here, are left out, and so are lists of modules.

    Raises:
        ModelError: a name or pattern that no module fits.
    """
    everything = modules_of(model)
    del everything[""]
    if wanted is None:
        counted = Counter(type(module) for module in everything.values())
        return list(_units(model, "", counted)) or [""]
    found: list[str] = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        like = re.compile(".*".join(map(re.escape, pattern.split("*"))))
        fits = [name for name in everything if like.fullmatch(name)]
        if not fits:
            raise ModelError(f"layers: no module is called {pattern!r}{did_you_mean(pattern, everything)}")
        found += fits
    return [name for name in everything if name in found]


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name to module; "" is the model."""
    return {name: module for name, module in model.named_modules()}  # noqa: C416 (its type is known)


def _units(module: nn.Module, path: str, counted: Counter[type[nn.Module]]) -> Iterator[str]:
    for name, child in module.named_children():
        own = f"{path}.{name}" if path else name
        repeated = counted[type(child)] > 1 and not isinstance(child, _LISTS)
        if isinstance(child, _SILENT) or (isinstance(child, _LISTS) and not len(child)):
            continue
        if repeated or not any(True for _ in child.children()):
            yield own
        else:
            yield from _units(child, own, counted)


class Reducer:
    """Turns a layer's output into rows of at most `most` numbers.

    Pixels, or steps, are averaged over as fine a grid as fits; what is wider still is hashed into `most`
    sums with random signs, which keep inner products in expectation (Weinberger et al. 2009).

    Args:
        most: numbers a row, at least 1.
        channels_first: whether in an output (n, a, b) a counts the channels (a model with 1-d convolutions).
        per_step: whether every step of a sequence is an example of its own.
    """

    def __init__(self, most: int, *, channels_first: bool, per_step: bool) -> None:
        self.most, self.channels_first, self.per_step = most, channels_first, per_step
        self._hashes: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, output: Tensor) -> Tensor:
        """(n, ...) to (rows, at most `most`), float32, on the CPU."""
        x = output.detach().float()
        if self.per_step and x.dim() >= 3:
            x = x.flatten(0, 1)
        if x.dim() == 3 and not self.channels_first:
            x = x.transpose(1, 2)
        if x.dim() in (3, 4, 5) and x[0].numel() > self.most:
            x = self._pooled(x)
        return self._hashed(x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)).cpu()

    def _pooled(self, x: Tensor) -> Tensor:
        axes = x.dim() - 2
        side = 1
        while x.shape[1] * _cells(x, side + 1) <= self.most and side < max(x.shape[2:]):
            side += 1
        grid = [min(side, each) for each in x.shape[2:]]
        pool: Callable[..., Tensor] = (
            functional.adaptive_avg_pool1d,
            functional.adaptive_avg_pool2d,
            functional.adaptive_avg_pool3d,
        )[axes - 1]
        return pool(x, grid)

    def _hashed(self, x: Tensor) -> Tensor:
        width = x.shape[1]
        if width <= self.most:
            return x
        if width not in self._hashes:
            draw = torch.Generator().manual_seed(width)
            place = torch.randint(self.most, (width,), generator=draw)
            sign = torch.randint(2, (width,), generator=draw) * 2.0 - 1.0
            self._hashes[width] = place, sign
        place, sign = (each.to(x.device) for each in self._hashes[width])
        return x.new_zeros(len(x), self.most).index_add_(1, place, x * sign)


def _cells(x: Tensor, side: int) -> int:
    cells = 1
    for each in x.shape[2:]:
        cells *= min(side, each)
    return cells


def collect(
    model: nn.Module, split: Split, batch: Any, layers: Sequence[str], reduce: Reducer
) -> Iterator[tuple[str, Features]]:
    """The features that `layers` give of the examples in `batch`, layer by layer, in eval mode.

    A module that is called more than once counts as it was at last; one that is never called, or gives no
    floating tensor first, is left out.

    Args:
        model: on any device, in any mode; it comes back as it was.
        split: ``batch -> (args, kwargs, target)``.
        batch: examples on the CPU.
        layers: qualified names; "input" stands for the first floating input, "" for the model itself.
        reduce: what makes a row of an output.

    Yields:
        Name and features, in the order of `layers`.
    """
    size = batches.length(batch)
    held = max(1, HELD // (4 * size * reduce.most))
    for start in range(0, len(layers), held):
        yield from _some(model, split, batch, layers[start : start + held], reduce).items()


def _some(
    model: nn.Module, split: Split, batch: Any, layers: Sequence[str], reduce: Reducer
) -> dict[str, Features]:
    seen: dict[str, Tensor] = {}
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    shapes: dict[str, tuple[int, ...]] = {}
    modules = modules_of(model)

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            del module, args
            if (tensor := first_float(output)) is not None:
                seen[name] = tensor

        return keep

    handles = [modules[name].register_forward_hook(hook(name)) for name in layers if name in modules]
    parameter = next(model.parameters(), None)
    where = (torch.device("cpu"), torch.float32) if parameter is None else (parameter.device, parameter.dtype)
    try:
        with evaluating(model):
            for part in batches.slices(batch, BATCH):
                args, kwargs, _ = split(batches.to(part, *where))
                seen.clear()
                if (
                    "input" in kept
                    and "input" not in modules
                    and (x := first_float((args, kwargs))) is not None
                ):
                    seen["input"] = x
                model(*args, **kwargs)
                for name, tensor in seen.items():
                    shapes[name] = tuple(tensor.shape[1:])
                    kept[name].append(reduce(tensor))
    finally:
        for handle in handles:
            handle.remove()
    return {name: Features(torch.cat(rows), shapes[name]) for name, rows in kept.items() if rows}


def first_float(tree: Any) -> Tensor | None:
    """The first floating tensor with examples along its first axis; of an LSTM's output the states."""
    found = (leaf for leaf in batches.tensors(tree) if leaf.is_floating_point() and leaf.dim() > 0)
    return next(found, None)


def convolves_along_steps(model: nn.Module) -> bool:
    """Whether the model has 1-d convolutions, whose outputs are (n, channels, steps)."""
    return any(isinstance(module, _ALONG) for module in model.modules())
