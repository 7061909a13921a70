"""The operation at which a loss left the finite numbers: it was given finite values and made none.

Read off the graph of the loss before its backward pass, whose nodes still hold what they were given. A graph
in which nothing that was given is out of the numbers, and one operation has no finite value of it, tells of
the formula and of nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from downslope.training.nonfinite import MEAN_OF_NONE

LARGE = 1e9
"""Size of a value from which it was thrown so far before: a square of it is none of the formula's doing yet,
and something else led up to it. Convention; outputs of a net in training reach some thousands."""

_Given = Callable[[Any], tuple[Tensor, Tensor]]
"""From a node what it was given and what it made of it."""


def _log(node: Any) -> tuple[Tensor, Tensor]:
    return node._saved_self, node._saved_self.log()


def _quotient(node: Any) -> tuple[Tensor, Tensor]:
    by = node._saved_other
    above = node._saved_self if node._saved_self is not None else torch.ones_like(by)
    return torch.where(by == 0, by + 0 * above, above / by), above / by


def _power(node: Any) -> tuple[Tensor, Tensor]:
    return node._saved_self, node._saved_self**node._saved_exponent


def _reciprocal(node: Any) -> tuple[Tensor, Tensor]:
    return 1 / node._saved_result, node._saved_result


def _exponential(node: Any) -> tuple[Tensor, Tensor]:
    made = node._saved_result
    return made.clamp(max=torch.finfo(made.dtype).max).log(), made


def _root(node: Any) -> tuple[Tensor, Tensor]:
    made = node._saved_result
    return torch.where(made.isnan(), -torch.ones_like(made), made), made


_OPERATIONS: dict[str, tuple[str, _Given]] = {
    "LogBackward0": ("a logarithm", _log),
    "Log2Backward0": ("a logarithm", _log),
    "Log10Backward0": ("a logarithm", _log),
    "DivBackward0": ("a quotient", _quotient),
    "PowBackward0": ("a power", _power),
    "ReciprocalBackward0": ("a quotient", _reciprocal),
    "ExpBackward0": ("an exponential", _exponential),
    "SqrtBackward0": ("a root", _root),
}


def broken(node: Any) -> dict[str, Any] | None:
    """What a node of a graph made of finite values, where that is not finite; None where it is.

    Returns:
        ``operation``, in words, ``given``, one of the values of which it has none, and ``count``; of a mean
        over nothing also ``of``, the targets that there were, and ``ignored``, the value that leaves one out.
    """
    if type(node).__name__ == "MulBackward0":
        return _factor(node)
    if type(node).__name__ in ("NllLossBackward0", "NllLoss2DBackward0", "MeanBackward0"):
        return _mean_of_none(node)
    known = _OPERATIONS.get(type(node).__name__)
    if known is None:
        return None
    with torch.no_grad():
        given, made = known[1](node)
        pair = cast("list[Tensor]", torch.broadcast_tensors(given.detach(), made.detach()))
        given, made = pair
        lost = ~made.isfinite() & given.isfinite() & (given.abs() < LARGE)
        if not bool(lost.any()):
            return None
        return {"operation": known[0], "given": float(given[lost][0]), "count": int(lost.sum())}


def _factor(node: Any) -> dict[str, Any] | None:
    """A number by which a term is multiplied, and which is none."""
    for name in ("_saved_self", "_saved_other"):
        by = cast("Tensor | None", getattr(node, name))
        if by is not None and not by.dim() and by.grad_fn is None and not by.requires_grad:
            value = float(by)
            if not math.isfinite(value):
                return {"operation": "a weight of a term", "given": value, "count": 1}
    return None


def _mean_of_none(node: Any) -> dict[str, Any] | None:
    """A mean over no value: of an empty tensor, or of targets that all are left out, or weigh nothing."""
    told: dict[str, Any] = {"operation": MEAN_OF_NONE, "given": 0.0, "count": 1}
    if type(node).__name__ == "MeanBackward0":
        return told if node._saved_self_sym_numel == 0 else None
    if node._saved_reduction != 1 or float(node._saved_total_weight) != 0:
        return None
    target: Tensor = node._saved_target
    ignored = int(node._saved_ignore_index)
    ignored -= 2**64 if ignored >= 2**63 else 0  # torch hands a negative one as it lies in memory
    every = bool((target == ignored).all())
    return told | {"of": target.numel()} | ({"ignored": ignored} if every else {})
