"""`torch.func.vmap` as a population uses it: never slowly, never with draws that are not the members' own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SLOW = "There is a performance drop"
"""How torch begins to say that an operation has no rule for vmap and goes member by member."""


def side_by_side(act: Callable[..., Any], in_dims: Sequence[int | None], *given: Any) -> Any:
    """``vmap(act, in_dims)(*given)``; attention by the formula, of which every operation has a rule.

    Raises:
        UserWarning: an operation without a rule.
        RuntimeError: what vmap refuses, such as a draw or a decision in Python.
    """
    mapped = torch.func.vmap(act, in_dims=tuple(in_dims), randomness="error")
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.filterwarnings("error", message=SLOW)
        return mapped(*given)
