"""Rounding to bfloat16 and float16: to the nearest, or up and down by chance so that the mean is right.

    nearest      x -> the nearest number: a step of less than half a unit in the last place is lost
    stochastic   x -> the number above with probability (x - below) / (above - below), else the one below

Bits are drawn by a hash of (seed, parameter, how often it was rounded, element), so that a resumed run draws
them again, and neither threads nor pieces change them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.core import randomness

__all__ = ["HALVES", "ROUNDINGS", "bits", "key_of", "rounded", "widened"]

ROUNDINGS = ("nearest", "stochastic", "master")
"""How a parameter of half precision takes its step; "master" keeps a float32 copy of it as state."""

HALVES = (torch.bfloat16, torch.float16)

_WORD = 1 << 32


def widened(x: Tensor) -> Tensor:
    """`x` in float32 if it has half precision, else itself."""
    return x.float() if x.dtype in HALVES else x


def key_of(seed: int, group: int, place: int, draw: int, column: int) -> int:
    """The key of one tensor's rounding at one step.

    Args:
        seed: of the optimizer.
        group: index of the parameter's group.
        place: index of the parameter in it.
        draw: how often the parameter has been rounded.
        column: 0 for the parameter, from 1 on for its states.
    """
    return randomness.address(seed, "step", group, place, draw, column)


def bits(n: int, key: int, device: torch.device, offset: int = 0) -> Tensor:
    """`n` int32 of random bits, those of the elements from `offset` on.

    Two rounds of a multiplicative hash, keyed before each: lowbias32 of Wellons 2018, "Prospecting for hash
    functions", whose bits flip with probability 1/2 to within .2 %.
    """
    h = torch.arange(n, dtype=torch.int32, device=device)
    h.add_(_signed(offset)).mul_(_signed(0x9E3779B1)).add_(_signed(key))
    h.bitwise_xor_((h >> 16).bitwise_and_(0xFFFF)).mul_(0x7FEB352D).add_(_signed(key >> 32))
    h.bitwise_xor_((h >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(0x846CA68B))
    return h.bitwise_xor_((h >> 16).bitwise_and_(0xFFFF))


def rounded(x: Tensor, dtype: torch.dtype, key: int | None = None, offset: int = 0) -> Tensor:
    """`x` in `dtype`: to the nearest, or by chance where there is a `key` and `dtype` has half precision.

    What `dtype` holds exactly stays, as do infinities and NaN; beyond its largest number the nearest counts.
    """
    if key is None or dtype not in HALVES or x.dtype == dtype:
        return x.to(dtype)
    draws = bits(x.numel(), key, x.device, offset).view(x.shape)
    nearest = x.to(dtype)
    if dtype == torch.bfloat16 and x.dtype == torch.float32:
        # The upper 16 bits of a float32 are a bfloat16: the lower ones are the chance to carry over.
        whole = (x.view(torch.int32) + draws.bitwise_and_(0xFFFF)).bitwise_and_(-0x10000)
        return torch.where(nearest.isfinite(), whole.view(torch.float32).to(dtype), nearest)
    error = x - nearest.to(x.dtype)
    other = torch.nextafter(nearest, torch.where(error > 0, torch.inf, -torch.inf).to(dtype))
    gap = (other.to(x.dtype) - nearest.to(x.dtype)).abs()
    chance = (draws >> 8).bitwise_and_(0xFFFFFF).to(x.dtype) * 2.0**-24
    return torch.where((chance * gap < error.abs()) & other.isfinite(), other, nearest)


def _signed(word: int) -> int:
    """The lower 32 bits of `word` as an int32."""
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word
