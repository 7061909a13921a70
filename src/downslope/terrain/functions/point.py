"""The model whose only parameter is a point on a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import names


class Point(nn.Module):
    """A point on a function; its output is the function there, whatever the input.

    Args:
        function: Name of the function, with settings where it has any: "bowl(condition=100)".
        start: Coordinates at which the point begins.
    """

    def __init__(self, function: str, start: Sequence[float]) -> None:
        super().__init__()
        self.function = names.load("downslope.terrain.functions:get")(function)
        self.point = nn.Parameter(torch.tensor(start, dtype=torch.get_default_dtype()))

    def forward(self, rows: Tensor) -> Tensor:
        """The value, once for each row: shape (n, ...) to (n, 1)."""
        return self.function(self.point).expand(len(rows), 1)


def height(output: Tensor, target: Tensor) -> Tensor:
    """The value of the function, as an objective; the target says nothing."""
    del target
    return output.mean()


def untargeted(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], None]:
    """A batch as inputs alone: a function has no targets, so that nothing judges them."""
    return (batch[0] if isinstance(batch, (tuple, list)) else batch,), {}, None


height.reduction = "mean"  # type: ignore[attr-defined]  # a mean over equal rows
