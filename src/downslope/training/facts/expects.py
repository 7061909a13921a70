"""What an objective of the user's own expects: the known objective that it agrees with says so."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from downslope.core.loss import Objective
from downslope.objectives import (
    absolute_error,
    bernoulli,
    categorical,
    cross_entropy,
    logistic,
    squared_error,
)

AGREE = 1e-3
"""Relative spread of the ratio of two objectives below which they are the same but for a factor."""

Known = Callable[[Tensor, Tensor], Tensor]


def agreeing(objective: Objective, output: Tensor, target: Any, args: tuple[Any, ...]) -> str | None:
    """What the known objective expects that gives the same values, but for a constant factor.

    Both are called on three drawn outputs of the model's shape, in the domain that the known one needs; a
    clamp or a label weight breaks the agreement and leaves the meaning unknown.

    Returns:
        "logits", "log-probabilities", "probabilities", "logit", "probability", "real", or None.
    """
    if not isinstance(target, Tensor):
        return None
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype) for _ in range(3)
    ]
    several = output.dim() > 1 and output.shape[1] > 1
    for expects, known, into in _KNOWN:
        if expects in ("logits", "log-probabilities", "probabilities") and not several:
            continue
        ratios: list[float] = []
        for z in drawn:
            with torch.no_grad():
                try:
                    theirs = float(objective.sign * objective.of(into(z), target, args).value)
                    ours = float(known(into(z), target))
                except Exception:  # noqa: BLE001 (not the one it agrees with)
                    break
            ratios.append(theirs / ours if ours else math.nan)
        if len(ratios) == len(drawn) and all(math.isfinite(r) and r > 0 for r in ratios):
            middle = sum(ratios) / len(ratios)
            if max(abs(r - middle) for r in ratios) <= AGREE * middle:
                return expects
    return None


def _softmax(z: Tensor) -> Tensor:
    return z.softmax(1)


def _log_softmax(z: Tensor) -> Tensor:
    return z.log_softmax(1)


def _same(z: Tensor) -> Tensor:
    return z


def _nll(log_p: Tensor, target: Tensor) -> Tensor:
    # Shifted rows tell NLL from cross-entropy, which does not see a shift.
    return functional.nll_loss(log_p + 1.0, target) + 1.0


_KNOWN: tuple[tuple[str, Known, Callable[[Tensor], Tensor]], ...] = (
    ("real", squared_error, _same),
    ("real", absolute_error, _same),
    ("logits", cross_entropy, _same),
    ("logit", logistic, _same),
    ("probabilities", categorical, _softmax),
    ("probability", bernoulli, torch.sigmoid),
    ("log-probabilities", _nll, _log_softmax),
)
