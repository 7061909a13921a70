"""Class ids that stand for other classes in the held-out part: a permutation, told by what is taken for what.

The one-to-one assignment under which the answers agree best with the labels (Kuhn 1955, the Hungarian method)
is sought on either half of the examples and counted on the other: an assignment that only fits noise wins
nothing there.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TAKEN, OWN = 0.5, 0.25
"""Share of a class that is taken for another one, at least, and for itself, at most, in the half that the
assignment is sought on."""

AHEAD = 0.3
"""Right answers on training data beyond the share of the most frequent class, from which confusions tell."""

CLOSED = 0.5
"""Share of the gap in right answers that the assignments must close, each on the other half: most of it."""

WON = 4.0
"""What it wins there, in standard errors of the same examples beside themselves. Convention."""

FEWEST = 3
"""Examples of a class in a half of which it is told what they are taken for."""

MOSTLY = 0.8
"""Share of the classes of an assignment that must be certain for the others to follow, and on which both
halves must agree. Convention."""

_Ints = NDArray[np.int64]


def taken(output: Tensor | None, target: Tensor | None, *, labels: bool) -> tuple[Tensor, Tensor] | None:
    """The classes that the outputs say and those of the labels; None where they are none.

    Args:
        output: (n, classes), or of a yes or no (n,) or (n, 1) scores that are positive for a yes.
        target: Ids (n,), or 0 and 1.
        labels: Whether there is a number for each class, so that the largest says which.
    """
    if output is None or target is None or len(output) != len(target):
        return None
    if labels:
        known = not target.is_floating_point() and target.dim() == 1
        many = output.dim() == 2 and output.shape[1] > 1
        return (output.argmax(1).cpu(), target.long().cpu()) if known and many else None
    return None


def answers(output: Tensor | None, target: Tensor | None, middle: float) -> tuple[Tensor, Tensor] | None:
    """The same of a yes or no: outputs above `middle` say 1."""
    if output is None or target is None or output.numel() != target.numel() or target.numel() != len(target):
        return None
    flags = target.flatten().cpu()
    if not bool(((flags == 0) | (flags == 1)).all()):
        return None
    return (output.flatten().cpu() > middle).long(), flags.long()


def renamed(said: Tensor, target: Tensor, train: float) -> dict[str, Any] | None:
    """The classes that stand for others.

    Args:
        said: Classes that the model says, (n,).
        target: Ids of the held-out part, (n,).
        train: Share of right answers on training data.

    Returns:
        ``moved``, pairs of an id and the class that it stands for; ``right``, the share of right answers with
        the labels renamed; None where nothing of the kind is certain.
    """
    t: _Ints = target.numpy().astype(np.int64)
    s: _Ints = said.numpy().astype(np.int64)
    kinds = int(max(t.max(initial=0), s.max(initial=0))) + 1
    frequent = np.bincount(t, minlength=kinds).max(initial=0) / max(len(t), 1)
    if len(t) < 2 * FEWEST or train - frequent < AHEAD:
        return None
    mixed = np.random.default_rng(0).permutation(len(t))  # whatever order the examples came in
    t, s = t[mixed], s[mixed]
    maps = [_moved(t[i::2], s[i::2], kinds) for i in (0, 1)]
    moved = _moved(t, s, kinds)
    if not moved or any(_shared(each, moved) < MOSTLY for each in maps):
        return None
    new = np.array([moved.get(c, c) for c in range(kinds)])
    # Each half is renamed as the other one asks for.
    there = [np.array([found.get(c, c) for c in range(kinds)]) for found in maps]
    after = np.concatenate([s[1 - i :: 2] == there[i][t[1 - i :: 2]] for i in (0, 1)])
    before = np.concatenate([s[1 - i :: 2] == t[1 - i :: 2] for i in (0, 1)])
    won = after.astype(np.float64) - before
    error = max(float(won.std(ddof=1)) / math.sqrt(len(won)), 1.0 / len(won))
    if won.mean() < WON * error or won.mean() < CLOSED * (train - before.mean()):
        return None
    return {"moved": [[c, k] for c, k in moved.items()], "right": float((s == new[t]).mean())}


def _shared(one: dict[int, int], two: dict[int, int]) -> float:
    """Share of the classes that either moves which both move alike."""
    return len(one.items() & two.items()) / max(len(one.keys() | two.keys()), 1)


def _moved(target: _Ints, said: _Ints, kinds: int) -> dict[int, int]:
    """From ids to the classes that they stand for, in closed rings; classes hardly seen hold none open."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((kinds, kinds))
    np.add.at(table, (target, said), 1)
    rows, columns = cast("tuple[Any, Any]", linear_sum_assignment(-table))
    total = table.sum(axis=1)
    rare = {c for c in range(kinds) if total[c] < FEWEST}
    whole = {int(c): int(k) for c, k in zip(rows, columns, strict=True) if c != k and c not in rare}
    moved = {
        c: k for c, k in whole.items() if table[c, k] >= TAKEN * total[c] and table[c, c] <= OWN * total[c]
    }
    if len(moved) >= MOSTLY * len(whole):
        return whole
    # A permutation of some classes among themselves: one class alone may look like another, for once.
    while True:
        reached = set(moved.values())
        kept = {c: k for c, k in moved.items() if (k in moved or k in rare) and (c in reached or rare)}
        if kept == moved:
            return moved
        moved = kept


def right(pair: tuple[Tensor, Tensor] | None) -> float | None:
    """Share of right answers; None where there are no classes."""
    return None if pair is None else float(torch.eq(*pair).double().mean())
