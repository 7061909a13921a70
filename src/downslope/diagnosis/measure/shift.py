"""Whether held-out data was prepared as the training data was, shown without a step of training.

Two things have to agree. The inputs of the two parts are distributed otherwise, far beyond what drawing
makes; and where those of the held-out part are brought to the others (by a scale and a shift, a logarithm,
another order of channels or columns, a transposition), the same trained model answers them as it should. Of
labels the confusion matrix tells: classes that the model all but always takes for one another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from downslope.core import batches
from downslope.diagnosis.measure.rearranged import Change, changes, unlike

GAP = 0.15
"""Share of the way from a constant guess to the training level that must be missing: as of high-variance."""

SURE = 3.0
"""The gap in its standard errors."""

FEWEST = 16
"""Examples of either part of which anything is told."""

LEARNT = 0.05
"""Share of the loss of a constant guess below which nothing was learnt that held-out data could miss."""

MOST = 2.0
"""Ways from the constant to the training level by which a few examples may be worse than the constant, to
count in a mean: errors far outside have no spread that could be told."""

ENOUGH = 10
"""Held-out examples of a class of which it is told what they are taken for."""

LEAD = 0.05
"""Share of the gap by which one change has to do better than a simpler one, unless it makes the inputs twice
as alike. Convention."""

TAKEN, OWN = 0.8, 0.1
"""Share of a class that is taken for another one, at least, and for itself, at most."""


class Answers(NamedTuple):
    """What a model made of a part."""

    losses: Tensor
    """Mean losses of a few examples each, lower is better, in double precision."""
    output: Tensor | None
    """Of all examples, (n, ...)."""


class Part(NamedTuple):
    """One part of the data, as a model is handed it."""

    inputs: Tensor
    target: Tensor | None
    answer: Callable[[Callable[[Tensor], Tensor] | None], Answers]
    """Losses of the model, its inputs changed by a function before."""


def compare(train: Part, valid: Part, base: float | None, labels: bool = True) -> dict[str, Any]:
    """What the held-out part loses, whether its inputs stand elsewhere, and what brings them back.

    Args:
        train: Examples that were trained on.
        valid: Held-out examples.
        base: Loss of the best constant guess, lower is better; None where it is not known.
        labels: Whether targets are ids of classes and outputs have a number for each.

    Returns:
        ``n``; ``missing``, the share of the way from the constant to the training level, and ``sure``, that
        in standard errors; ``scores``, losses of both parts and, of classes, shares of right answers. Where
        the gap is material and sure also ``apart``, how unlike the inputs are, in deviations, ``noise``, what
        drawing makes of that, and ``moments``; ``change``, what brings the inputs back, and ``recovered``,
        the share of the gap that it closes; ``labels``, the classes that stand for others.
    """
    count = len(valid.inputs)
    own, raw = train.answer(None), valid.answer(None)
    worst = _worst(own, base)
    score = {"train": _score(own, train.target, labels), "valid": _score(raw, valid.target, labels)}
    missing, sure = _gap(_held(own, worst), _held(raw, worst), base)
    found: dict[str, Any] = {"n": count, "missing": missing, "sure": sure, "scores": score}
    found["learnt"] = missing is not None
    if missing is None or missing < GAP or not sure >= SURE or min(count, len(train.inputs)) < FEWEST:
        return found
    if (renamed := _renamed(valid, raw, score)) is not None:
        return found | {"labels": renamed}
    if not train.inputs.is_floating_point() or train.inputs.shape[1:] != valid.inputs.shape[1:]:
        return found
    apart, noise = unlike(train.inputs, valid.inputs)
    moments = [
        float(f(each.double())) for each in (train.inputs, valid.inputs) for f in (torch.mean, torch.std)
    ]
    found |= {"apart": apart, "noise": noise, "moments": moments}
    return found | _best(train, valid, raw, score, worst, labels=labels)


def _best(
    train: Part, valid: Part, raw: Answers, score: dict[str, Any], worst: float, *, labels: bool
) -> dict[str, Any]:
    """The change of the inputs that closes most of the gap; the simpler one of equals."""
    best: dict[str, Any] = {}
    for change in changes(train.inputs, valid.inputs):
        made = valid.answer(change.apply)
        seen = _score(made, valid.target, labels)
        closed = _closed(score["train"], score["valid"], seen)
        won = _held(raw, worst) - _held(made, worst)
        sure = float(won.mean()) / max(_error(won), 1e-12)
        ahead = closed - best["recovered"] if best else math.inf
        if ahead > LEAD or (ahead > -LEAD and change.apart <= 0.5 * best["change"]["apart"]):
            best = {"recovered": closed, "won": sure, "change": _told(change), "mended": seen}
    return best


def _told(change: Change) -> dict[str, Any]:
    return {"kind": change.kind, "text": change.text, "apart": change.apart}


def _score(made: Answers, target: Tensor | None, labels: bool) -> dict[str, float | None]:
    right = None
    if (taken := _taken(made.output, target, labels)) is not None and target is not None:
        right = float((taken == target.cpu()).double().mean())
    return {"loss": float(made.losses.mean()), "right": right}


def _taken(output: Tensor | None, target: Tensor | None, labels: bool) -> Tensor | None:
    """The classes that the outputs say; None where they are none."""
    if output is None or target is None or not labels or target.is_floating_point() or target.dim() != 1:
        return None
    if output.dim() != 2 or output.shape[1] < 2 or len(output) != len(target):
        return None
    return output.argmax(1).cpu()


def _gap(own: Tensor, raw: Tensor, base: float | None) -> tuple[float | None, float]:
    """Share of the way that is missing on held-out data, and the gap in standard errors."""
    way = math.nan if base is None else base - float(own.mean())
    if base is None or not way > LEARNT * abs(base) or min(len(own), len(raw)) < 2:
        return None, 0.0
    lost = float(raw.mean() - own.mean())
    return lost / way, lost / max(math.hypot(_error(own), _error(raw)), 1e-12)


def _worst(own: Answers, base: float | None) -> float:
    """Loss beyond which a few examples count no more: a single one can be off by any factor."""
    mean = float(own.losses.mean())
    return math.inf if base is None or not mean < base else base + MOST * (base - mean)


def _held(made: Answers, worst: float) -> Tensor:
    return made.losses.nan_to_num(worst, worst).clamp_max(worst)


def _error(values: Tensor) -> float:
    return float(values.std() / math.sqrt(len(values))) if len(values) > 1 else math.inf


def _closed(train: dict[str, Any], raw: dict[str, Any], made: dict[str, Any]) -> float:
    """Share of the gap that is closed, by the loss and, of classes, by the right answers: the lesser one."""

    def share(key: str) -> float:
        gap = raw[key] - train[key]
        return (raw[key] - made[key]) / gap if gap else 0.0

    by_loss = share("loss") if math.isfinite(raw["loss"]) else float(math.isfinite(made["loss"]))
    if raw["right"] is None or train["right"] - raw["right"] < GAP:
        return by_loss
    return share("right") if by_loss > 0 else by_loss


def _renamed(valid: Part, raw: Answers, score: dict[str, Any]) -> dict[str, Any] | None:
    """Classes that stand for others in the held-out part, a permutation of them; None where there is none."""
    taken = _taken(raw.output, valid.target, True)
    target, train = valid.target, score["train"]["right"]
    if taken is None or target is None or train is None or raw.output is None or train < TAKEN:
        return None
    kinds, target = raw.output.shape[1], target.cpu()
    table = np.zeros((kinds, kinds))
    np.add.at(table, (target.numpy(), taken.numpy()), 1)
    rows, columns = cast("tuple[Any, Any]", linear_sum_assignment(-table))
    moved: dict[int, int] = {
        int(c): int(k)
        for c, k in zip(rows, columns, strict=True)
        if c != k and _certain(table[c], int(c), int(k))
    }
    # A permutation of some classes among themselves: one class alone may look like another, for once.
    while set(moved) != (reached := set(moved.values())):
        moved = {c: k for c, k in moved.items() if k in moved and c in reached}
    if not moved:
        return None
    mended = sum(table[c, moved.get(c, c)] for c in range(kinds)) / table.sum()
    return {"moved": [[c, k] for c, k in moved.items()], "right": float(mended)}


def _certain(row: Any, own: int, other: int) -> bool:
    total = row.sum()
    return bool(total >= ENOUGH and row[other] >= TAKEN * total and row[own] <= OWN * total)


def first_changed(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """`tree` with its first tensor changed."""
    done: list[bool] = []

    def once(leaf: Tensor) -> Tensor:
        if done:
            return leaf
        done.append(True)
        return change(leaf)

    return batches.map_tensors(once, tree)


def chunks(count: int) -> list[tuple[int, int]]:
    """Ends of stretches of a few examples: at most 32 of them, of 4 examples at least where there are."""
    size = max(4, -(-count // 32))
    starts = list(range(0, max(count - size, 0) + 1, size))  # a last one of fewer would count as much
    return [(a, a + size) for a in starts[:-1]] + [(starts[-1], count)]
