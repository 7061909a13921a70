"""Whether units that started alike are still alike: then a layer of many is one of a single unit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.modules import named_modules
from downslope.diagnosis.measure.start import rows_of

SAME = 1e-4
"""Distance of the units' weights from their mean, in root mean squares of the weights, up to which they are
the same but for rounding: single precision is off by 1e-7 a step. Convention."""

UNFELT = 1e-5
"""Deviation of what units are given, up to which it is rounding in a layer of zeros that no gradient reached
before the first step: an activation bends over 1. Convention; 1,000 steps at lr 0.5 leave 4e-7."""


def still(layers: Sequence[Mapping[str, Any]], models: Iterable[nn.Module]) -> dict[str, dict[str, bool]]:
    """The layers whose units started alike, as they are now.

    Units are alike whose weights and biases are; what is behind them gets the same of each. Of a grouped
    convolution each unit has inputs of its own: equal weights do not make equal units.

    Args:
        layers: As `measure.start` lists them.
        models: That hold them; a name that two of them have says nothing.

    Returns:
        Name to ``still`` and ``moved`` (whether the weights are other ones than at the start).
    """
    begun = {str(layer["name"]): layer for layer in layers if layer["equal_rows"] and layer["trainable"]}
    held: dict[str, list[nn.Module]] = {}
    for model in models if begun else ():
        for name, module in named_modules(model):
            held.setdefault(name, []).append(module)
    found: dict[str, dict[str, bool]] = {}
    for name, layer in begun.items():
        own = held.get(name, [])
        weight: Any = getattr(own[0], "weight", None) if len(own) == 1 else None
        if not isinstance(weight, Tensor) or getattr(own[0], "groups", 1) != 1:
            continue
        rows, bias = rows_of(own[0], weight.detach()).double(), cast("Any", getattr(own[0], "bias", None))
        if not bool(torch.isfinite(rows).all()):
            continue
        size = rows.square().mean().sqrt()
        same = _spread(rows) <= SAME * size
        if isinstance(bias, Tensor):
            offset = bias.detach().double().reshape(-1, 1)
            same = same & (_spread(offset) <= SAME * torch.maximum(size, offset.square().mean().sqrt()))
        else:
            offset = rows.new_zeros(1, 1)
        if not layer["weight_rms"] and layer.get("grad_rms") == 0:
            felt = _spread(rows) * math.sqrt(rows.shape[1]) * (layer.get("in_rms") or 0.0) + _spread(offset)
            same = same | (felt <= UNFELT)
        moved = abs(float(size) - layer["weight_rms"]) > 1e-6 * layer["weight_rms"]
        found[name] = {"still": bool(same), "moved": moved}
    return found


def _spread(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).square().mean().sqrt()
