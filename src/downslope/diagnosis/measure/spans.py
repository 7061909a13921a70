"""Whether some steps of a sequence, taken together, tell the target: no single one may.

A ridge regression on what is at these steps, wherever among them it stands, cross-validated: the words of a
sentence, each in a place of its own, or a sum over many steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

FEWEST, MOST = 96, 512
"""Different examples from which it is asked, and that are looked at."""

SYMBOLS = 512
"""Symbols that are counted, the most frequent ones."""

WIDEST = 16
"""Features of a step, or classes or columns of the target, that are looked at; each with each other."""

COMMON = 20
"""Examples of a class, and of all others, from which it is foretold."""

FOLDS = 8
"""Parts of the examples, each foretold from the others."""

CERTAIN = 5.0
"""Standard errors of a correlation of nothing from which it counts."""

LEAST = 0.5
"""Correlation on examples held out that counts, at least: a quarter of what the targets vary. Of 600 draws of
noise (96 to 512 examples, symbols and features) none came beyond 0.32."""

GONE = 1e-6
"""Gradient at a step in the largest at any, below which it teaches nothing: a thousandth of `FADED`."""

_RIDGE = 1.0
"""Penalty in the mean variance of the examples: what is told by few of many features is found with less."""


def measure(inputs: Tensor, target: Tensor, lost: Sequence[bool]) -> dict[str, float] | None:
    """Correlation with the target, on examples held out, of what the `lost` steps say and of what others do.

    Args:
        inputs: Symbols, integers of shape (n, steps), or features, shape (n, steps, k).
        target: Classes, integers of shape (n,), or values, shape (n,) or (n, c).
        lost: Of each step, whether it belongs to the one part.

    Returns:
        ``lost`` and ``others`` (the largest over classes or columns, 0 at least) and ``limit`` (what counts);
        None for other shapes, or too few different examples.
    """
    if len(inputs) != len(target) or inputs.dim() not in (2, 3) or inputs.shape[1] != len(lost):
        return None
    if inputs.is_floating_point() != (inputs.dim() == 3):
        return None
    # An example that comes again in a later epoch would be known by heart where it is held out.
    _, first = np.unique(inputs.reshape(len(inputs), -1).numpy(), axis=0, return_index=True)
    kept = torch.from_numpy(np.sort(first))[:MOST]
    inputs, target = inputs[kept], target[kept]
    wanted = _columns(target)
    if len(kept) < FEWEST or wanted is None or (inputs.dim() == 3 and inputs.shape[2] > WIDEST):
        return None
    part = torch.tensor(list(lost))
    limit = max(LEAST, CERTAIN / math.sqrt(len(kept)))
    return {
        "lost": _told(inputs[:, part], wanted),
        "others": _told(inputs[:, ~part], wanted),
        "limit": limit,
    }


def of_profile(inputs: Tensor, target: Tensor, profile: Sequence[float]) -> dict[str, float] | None:
    """`measure` of the steps from which no gradient comes, and of the others.

    Args:
        inputs: As for `measure`.
        target: As for `measure`.
        profile: The gradient at each step in the largest.
    """
    lost = [each < GONE for each in profile]
    return measure(inputs, target, lost) if any(lost) else None


def _columns(target: Tensor) -> Tensor | None:
    """Shape (n, columns): one for each class, or the values."""
    if target.is_floating_point():
        flat = target.double().reshape(len(target), -1)
        return flat if 0 < flat.shape[1] <= WIDEST and bool(flat.isfinite().all()) else None
    if target.dim() != 1:
        return None
    classes = _different(target)
    if not 1 < len(classes) <= WIDEST:
        return None
    made = torch.eq(target[:, None], classes).double()
    common = torch.minimum(made.sum(0), len(made) - made.sum(0)) >= COMMON
    return made[:, common] if bool(common.any()) else None


def _different(values: Tensor) -> Tensor:
    found, count = np.unique(values.numpy(), return_counts=True)
    return torch.from_numpy(np.sort(found[np.argsort(-count, kind="stable")][:SYMBOLS]))


def _features(part: Tensor) -> Tensor:
    """Shape (n, features), of variance 1: how often each symbol occurs; or each value, and the means over the
    steps of the features and of their products.
    """
    if part.dim() == 2:
        symbols = _different(part)
        at = torch.searchsorted(symbols, part.contiguous()).clamp(max=len(symbols) - 1)
        known = torch.eq(symbols[at], part).double()
        count = torch.zeros(len(part), len(symbols), dtype=torch.float64).scatter_add_(1, at, known)
        return _standard(count)
    values = torch.nan_to_num(part.double(), posinf=0.0, neginf=0.0)
    scaled = _standard(values.flatten(0, 1)).reshape(values.shape)
    products = torch.einsum("nti,ntj->nij", values, values).flatten(1) / values.shape[1]
    together = [_standard(values.mean(1)), _standard(products)]
    return torch.cat([*together, scaled.flatten(1) / math.sqrt(values.shape[1])], 1)


def _told(part: Tensor, wanted: Tensor) -> float:
    """The largest correlation of a column with what is foretold of it, wherever in the part it stands or by
    place.
    """
    if not part.shape[1]:
        return 0.0
    features = _features(part)
    found = _foretold(features @ features.T, wanted)
    if part.dim() == 2:
        same = torch.stack([torch.eq(row, part).double().mean(1) for row in part])
        found = max(found, _foretold(same, wanted))
    return found


def _foretold(alike: Tensor, wanted: Tensor) -> float:
    """The largest correlation of a column with what a ridge regression foretells of it, example by example
    from others.

    Args:
        alike: Products of the examples' features, shape (n, n).
        wanted: Shape (n, columns).
    """
    alike = alike - alike.mean(0) - alike.mean(1, keepdim=True) + alike.mean()
    n, scale = len(wanted), float(alike.diagonal().mean())
    if scale <= 1e-12:
        return 0.0
    fold = torch.arange(n) % FOLDS
    made = torch.empty_like(wanted)
    for each in range(FOLDS):
        out, rest = fold == each, fold != each
        mean = wanted[rest].mean(0)
        inner = alike[rest][:, rest] + _RIDGE * scale * torch.eye(int(rest.sum()), dtype=torch.float64)
        made[out] = mean + alike[out][:, rest] @ torch.linalg.solve(inner, wanted[rest] - mean)
    return max(0.0, float((_standard(made) * _standard(wanted)).mean(0).max()))


def _standard(columns: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1; zeros where a column is constant."""
    centred = columns - columns.mean(0)
    deviation = centred.square().mean(0).sqrt()
    sound = deviation > 1e-9 * columns.abs().amax(0).clamp_min(1e-300)
    return torch.where(sound, centred / deviation.clamp_min(1e-300), torch.zeros(()))
