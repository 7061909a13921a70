"""Rounding to bfloat16 and float16: to the nearest, or up and down by chance so that the mean is right.

    nearest      x -> the nearest number: a step of less than half a unit in the last place is lost
    stochastic   x -> the number above with probability (x - below) / (above - below), else the one below

Bits are drawn by a hash of (seed, parameter, how often it was rounded, element), so that a resumed run draws
them again, and neither threads nor pieces change them. Elements are counted in the order of memory; kernels
draw the same bits (`kernel.build`).
"""

from __future__ import annotations

import functools
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from downslope.core import randomness
from downslope.optim.looks import is_dense

__all__ = ["FACTORS", "HALVES", "ODD", "Draws", "Streams", "bits", "rounded", "widened"]

HALVES = (torch.bfloat16, torch.float16)

_WORD = 1 << 32
ODD = 0x9E3779B1
"""Spreads the elements' places over the words that are hashed."""

FACTORS = 0x7FEB352D, 0x846CA68B
"""Of the hash."""


_PIECE = 1 << 16
_EXPONENT = 0x7F800000


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it has half precision, else itself."""
    return x.float() if x.dtype in HALVES else x


class Streams:
    """Of the tensors of a bucket: how often each was rounded, and the key of its random bits at this step.

    The counts lie in one tensor; each state gets its view as ``draws``.

    Args:
        seed: of the optimizer.
        group: index of the parameter group.
        places: indices of the parameters in it.
        states: theirs.
    """

    def __init__(
        self, seed: int, group: int, places: Sequence[int], states: Sequence[MutableMapping[str, Any]]
    ) -> None:
        self.seed, self.group = seed, group
        self.places = np.array(places, np.uint64)
        self.counts = torch.tensor([int(state["draws"]) for state in states])
        self.views = list(self.counts.unbind())
        for state, view in zip(states, self.views, strict=True):
            state["draws"] = view

    def stand(self, states: Sequence[MutableMapping[str, Any]]) -> bool:
        """Whether the states still have their views."""
        return all(state.get("draws") is view for state, view in zip(states, self.views, strict=True))

    def following(self) -> randomness.Words:
        """The keys of the step that begins: bits of `Draws`, or of a kernel, hang on them alone."""
        self.counts.add_(1)
        counts = self.counts.numpy().astype(np.uint64)
        return randomness.addresses(self.seed, "step", self.group, self.places, counts)


class Draws:
    """The random bits of one parameter's rounding at one step.

    Args:
        key: one of `Streams`.
    """

    def __init__(self, key: int) -> None:
        self.key = key
        self._at = -1, 0, 0
        self._word = torch.empty(0)

    def of(self, column: int, like: Tensor, offset: int = 0) -> Tensor:
        """Numbers in [0, 2**16) for the elements of `like`, which begin at `offset`, in the order of memory.

        Args:
            column: 0 for the parameter, from 1 on for its states.
            like: their shape, strides and device.
            offset: of the first element.
        """
        at = column // 2, like.numel(), offset
        if at != self._at:  # of 32 bits, two tensors take 16 each
            self._at = at
            self._word = bits(like.numel(), self.key ^ (at[0] << 32), like.device, offset)
        found = (self._word >> 16 if column % 2 else self._word).bitwise_and(0xFFFF)
        return found.as_strided(like.shape, like.stride()) if is_dense(like) else found.view(like.shape)


def bits(n: int, key: int, device: torch.device, offset: int = 0) -> Tensor:
    """`n` int32 of random bits, those of the elements from `offset` on.

    Two rounds of a multiplicative hash, keyed before each: lowbias32 of Wellons 2018, "Prospecting for hash
    functions", whose bits flip with probability 1/2 to within .2 %.
    """
    spread = _kept(device)[:n] if n <= _PIECE else _spread(device, n)
    h = spread + _signed(offset * ODD + key)
    h.bitwise_xor_((h >> 16).bitwise_and_(0xFFFF)).mul_(FACTORS[0]).add_(_signed(key >> 32))
    h.bitwise_xor_((h >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(FACTORS[1]))
    return h.bitwise_xor_((h >> 16).bitwise_and_(0xFFFF))


@functools.lru_cache(maxsize=4)
def _kept(device: torch.device) -> Tensor:
    return _spread(device, _PIECE)


def _spread(device: torch.device, n: int) -> Tensor:
    return torch.arange(n, dtype=torch.int32, device=device).mul_(_signed(ODD))


def rounded(x: Tensor, dtype: torch.dtype, draws: Tensor | None = None) -> Tensor:
    """`x` in `dtype`: to the nearest, or by chance where there are `draws` and `dtype` has half precision.

    What `dtype` holds exactly stays, as do infinities and NaN; beyond its largest number the nearest counts.
    """
    if draws is None or dtype not in HALVES or x.dtype == dtype:
        return x.to(dtype)
    nearest = x.to(dtype)
    if dtype == torch.bfloat16 and x.dtype == torch.float32:
        # The upper 16 bits of a float32 are a bfloat16: the lower ones are the chance to carry over. Of what
        # is not finite (an exponent of ones) the nearest is taken.
        word = x.view(torch.int32)
        finite = (word.bitwise_and(_EXPONENT)).sub_(_EXPONENT).bitwise_right_shift_(31)
        chance = (word + draws).bitwise_and_(-0x10000).bitwise_and_(finite)
        plain = nearest.float().view(torch.int32).bitwise_and_(finite.bitwise_not_())
        return chance.bitwise_or_(plain).view(torch.float32).to(dtype)
    error = x - nearest.to(x.dtype)
    other = torch.nextafter(nearest, torch.where(error > 0, torch.inf, -torch.inf).to(dtype))
    gap = (other.to(x.dtype) - nearest.to(x.dtype)).abs()
    chance = draws.to(x.dtype) * 2.0**-16
    return torch.where(chance * gap < error.abs(), other, nearest)


def _signed(word: int) -> int:
    """The lower 32 bits of `word` as an int32."""
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word
