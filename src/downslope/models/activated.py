"""Layers with their activation inside: the names and shapes of a plain layer, but not linear."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ActivatedLinear(nn.Linear):
    """``relu(x W^T + b)``; arguments, shapes and saved names are those of `torch.nn.Linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """Shape (..., out_features), never negative."""
        return functional.relu(super().forward(input))


class ActivatedConv2d(nn.Conv2d):
    """``relu(conv(x))``; arguments, shapes and saved names are those of `torch.nn.Conv2d`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """The shape that `torch.nn.Conv2d` gives, never negative."""
        return functional.relu(super().forward(input))
