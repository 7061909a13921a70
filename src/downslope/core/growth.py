"""Whether an objective adds up the examples of a batch: its value on the batch taken twice."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.loss import Objective

SUM = 1.9
"""Loss of a batch taken twice in the loss of it once from which it is a sum: 2 for a sum, 1 for a mean."""


def growth(objective: Objective, output: Tensor, target: Any, args: tuple[Any, ...]) -> float | None:
    """The value on the batch taken twice in the value on the batch once; None where that is not known."""

    def twice(tree: Any) -> Any:
        return batches.map_tensors(lambda leaf: torch.cat([leaf, leaf]) if leaf.dim() else leaf, tree)

    try:
        once = float(objective.of(output, target, args).value)
        double = float(objective.of(twice(output), twice(target), twice(args)).value)
    except Exception:  # noqa: BLE001 (an objective may know its batch size)
        return None
    return double / once if once and math.isfinite(once) and math.isfinite(double) else None
