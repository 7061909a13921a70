"""Images of all members at once: the members' channels beside one another in one tensor, channels last.

    (M, B, C, H, W)     as the chain has them, a view of
    (B, M C, H, W)      in memory as (B, H, W, M, C)

So a convolution of all members is one with M groups, and pooling needs to know nothing of members. With the
channels last in memory both are as fast as torch has them: two to ten times faster than the other way round.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

__all__ = ["CONVOLUTIONS", "POOLS", "Convolution", "beside", "members"]

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d)
"""What `Convolution` can stand for."""

POOLS: tuple[type[nn.Module], ...] = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
"""They act channel by channel and hold no numbers."""

_ATEN: Any = torch.ops.aten


def beside(x: Tensor) -> Tensor:
    """(M, B, C, H, W) as (B, M C, H, W), channels last; a view where `members` made it."""
    return last(x.transpose(0, 1).flatten(1, 2))


def last(x: Tensor) -> Tensor:
    """Images with their channels last in memory; a single channel too, which torch takes for either way.

    On a GPU as they are: there it is not known to be faster.
    """
    if x.device.type != "cpu":
        return x
    _, channels, high, wide = x.shape
    if channels > 1:
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous().as_strided(x.shape, (high * wide, 1, wide, 1))


def members(x: Tensor, count: int) -> Tensor:
    """(B, M C, H, W) as (M, B, C, H, W), a view."""
    return torch.unflatten(x, 1, (count, -1)).transpose(0, 1)


class Convolution(NamedTuple):
    """One convolution of all members; of sequences as of images one row high."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int
    flat: bool
    """Whether it is one of sequences."""

    @classmethod
    def of(cls, module: nn.Module) -> Convolution | None:
        """What `module` does; None where it pads otherwise than with the same zeros on both sides."""
        held, flat = cast("Any", module), type(module) is nn.Conv1d
        padding = _padding(held)
        if padding is None or held.padding_mode != "zeros":
            return None
        lead = [1] if flat else []
        return cls(
            [*lead, *held.stride],
            [*([0] if flat else []), *padding],
            [*lead, *held.dilation],
            held.groups,
            flat,
        )

    def __call__(self, laid: tuple[Tensor, Tensor, int], bias: Tensor | None, count: int) -> Tensor:
        """The outputs, (M, B, O, ...).

        Args:
            laid: What `laid` gave.
            bias: (M, O).
            count: M.
        """
        images, kernels, groups = laid
        flat = None if bias is None else bias.flatten()
        how = self.stride, self.padding, self.dilation, False, [0, 0], groups
        out = torch.convolution(images, kernels, flat, *how)
        made = members(out, count)
        return made.squeeze(3) if self.flat else made

    def laid(self, x: Tensor, weight: Tensor, *, apart: bool) -> tuple[Tensor, Tensor, int]:
        """Images, kernels and groups of the one convolution that does it.

        Args:
            x: (M, B, C, ...), or (B, C, ...) where all members see the same.
            weight: (M, O, C / groups, ...).
            apart: Whether the members' dimension leads in `x`.
        """
        if self.flat:
            x, weight = x.unsqueeze(-2), weight.unsqueeze(-2)
        count = len(weight)
        if not apart and self.groups > 1:
            x, apart = x.expand(count, *x.shape), True
        images = beside(x) if apart else last(x)
        return images, weight.flatten(0, 1), count * self.groups if apart else 1

    def back(
        self, slope: Tensor, laid: tuple[Tensor, Tensor, int], *, wanted: tuple[bool, bool, bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients by inputs, weights and biases, each with the members' dimension, from that by the output.

        Args:
            slope: (M, B, O, ...).
            laid: What `laid` gave.
            wanted: Which of the three; those by inputs only of members that have inputs of their own.
        """
        count = len(slope)
        images, kernels, groups = laid
        out = beside(slope.unsqueeze(3) if self.flat else slope)
        how = self.stride, self.padding, self.dilation, False, [0, 0], groups
        found: tuple[Tensor | None, ...] = _ATEN.convolution_backward(
            out, images, kernels, [len(kernels)], *how, list(wanted)
        )
        below, weights, biases = found
        below = None if below is None else members(below, count)
        weights = None if weights is None else torch.unflatten(weights, 0, (count, -1))
        biases = None if biases is None else biases.view(count, -1)
        if self.flat:
            below, weights = (None if each is None else each.squeeze(3) for each in (below, weights))
        return below, weights, biases


def _padding(held: Any) -> tuple[int, ...] | None:
    """Zeros on each side of every dimension; None where the sides differ."""
    if not isinstance(held.padding, str):
        return tuple(held.padding)
    if held.padding == "valid":
        return (0,) * len(held.kernel_size)
    whole = [d * (k - 1) for d, k in zip(held.dilation, held.kernel_size, strict=True)]
    return None if any(each % 2 for each in whole) else tuple(each // 2 for each in whole)
