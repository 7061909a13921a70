"""Whether units that started alike are still alike: then a layer of many is one of a single unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.modules import named_modules
from downslope.diagnosis.measure.start import rows_of

SAME = 1e-4
"""Distance of the units' weights from their mean, in root mean squares of the weights, up to which they are
the same but for rounding: single precision is off by 1e-7 a step. Convention."""


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
        moved = abs(float(size) - layer["weight_rms"]) > 1e-6 * layer["weight_rms"]
        found[name] = {"still": bool(same), "moved": moved}
    return found


def _spread(rows: Tensor) -> Tensor:
    return (rows - rows.mean(0)).square().mean().sqrt()
