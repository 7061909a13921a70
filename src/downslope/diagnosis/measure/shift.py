"""Whether held-out data was prepared as the training data was, shown without a step of training.

Two things have to agree. The inputs of the two parts are distributed otherwise, far beyond what drawing
makes; and where those of the held-out part are brought to the others (by a scale and a shift, a logarithm,
another order of channels or columns, a transposition), the same trained model answers them as it should. Of
labels the confusion matrix tells: classes that the model takes for one another (`renamed`). Of columns that
are distributed alike, what they have to do with the target tells which is which (`matched`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from downslope.core import batches
from downslope.diagnosis.measure import matched, renamed
from downslope.diagnosis.measure.rearranged import COLUMNS, Change, changes, far, ordered, short, unlike

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

MOST_OF_IT = 0.5
"""Share of the gap from which a change of the inputs explains it, and no other order of columns is sought."""

LEAD = 0.05
"""Share of the gap by which one change has to do better than a simpler one, unless it makes the inputs twice
as alike. Convention."""


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


def compare(
    train: Part,
    valid: Part,
    base: float | None,
    labels: bool = True,
    *,
    middle: float | None = None,
    halves: tuple[Part, Part] | None = None,
) -> dict[str, Any]:
    """What the held-out part loses, whether its inputs stand elsewhere, and what brings them back.

    Args:
        train: Examples that were trained on.
        valid: Held-out examples.
        base: Loss of the best constant guess, lower is better; None where it is not known.
        labels: Whether targets are ids of classes and outputs have a number for each.
        middle: Of a yes or no, the output above which it is a yes; None where it is none.
        halves: Held-out examples from which an order of columns may be read, and others to try it on.

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
    if (other := _renamed((train, own), (valid, raw), labels, middle)) is not None:
        return found | {"labels": other}
    if not train.inputs.is_floating_point() or train.inputs.shape[1:] != valid.inputs.shape[1:]:
        return found
    apart, noise = unlike(train.inputs, valid.inputs)
    moments = [
        float(f(each.double())) for each in (train.inputs, valid.inputs) for f in (torch.mean, torch.std)
    ]
    found |= {"apart": apart, "noise": noise, "moments": moments}
    best = _best(train, valid, (raw, own), worst, changes(train.inputs, valid.inputs), labels=labels)
    if best.get("recovered", 0.0) < MOST_OF_IT and valid.inputs.dim() == 2:
        order = _reordered(train, valid, (raw, own), worst, halves, labels=labels)
        best = max(best, order, key=_closes)
    return found | (best if best and _answers(best, score, valid, base) else {})


def _best(
    train: Part, valid: Part, made: tuple[Answers, Answers], worst: float, offers: Iterable[Change], *,
    labels: bool,
) -> dict[str, Any]:  # fmt: skip
    """The change of the inputs that closes most of the gap; the simpler one of equals."""
    raw, own = made
    before, there = _score(raw, valid.target, labels), _score(own, train.target, labels)
    best: dict[str, Any] = {}
    for change in offers:
        tried = valid.answer(change.apply)
        seen = _score(tried, valid.target, labels)
        closed = _closed(there, before, seen)
        won = _held(raw, worst) - _held(tried, worst)
        sure = float(won.mean()) / max(_error(won), 1e-12)
        ahead = closed - best["recovered"] if best else math.inf
        if ahead > LEAD or (ahead > -LEAD and change.apart <= 0.5 * best["change"]["apart"]):
            best = {"recovered": closed, "won": sure, "change": _told(change), "mended": seen}
    return best


def _reordered(
    train: Part, valid: Part, made: tuple[Answers, Answers], worst: float,
    halves: tuple[Part, Part] | None, *, labels: bool,
) -> dict[str, Any]:  # fmt: skip
    """The same of orders of columns that their distributions do not tell: usual slips, and what fits best.

    An order that is read off some examples, their targets included, is tried on others.
    """
    count = valid.inputs.shape[1]
    if count < 2 or count > COLUMNS:
        return {}
    usual = [ordered(text, order) for text, order in matched.usual(count) if _agrees(train, valid, order)]
    best = _best(train, valid, made, worst, usual, labels=labels)
    if (
        _closes(best) >= MOST_OF_IT
        or halves is None
        or min(len(each.inputs) for each in halves) < matched.FEWEST
    ):
        return best
    seen, held = halves
    order = matched.order((train.inputs, train.target), (seen.inputs, seen.target))
    if order == tuple(range(count)) or not _agrees(train, held, order):
        return best
    offers = [ordered(f"the order {short(order)}", order)]
    return max(
        best, _best(train, held, (held.answer(None), made[1]), worst, offers, labels=labels), key=_closes
    )


def _agrees(train: Part, valid: Part, order: tuple[int, ...]) -> bool:
    target = valid.target
    after = valid.inputs[:, torch.tensor(order, device=valid.inputs.device)]
    return matched.agrees((train.inputs, train.target), (valid.inputs, target), (after, target))


def _answers(found: dict[str, Any], score: dict[str, Any], valid: Part, base: float | None) -> bool:
    """Whether held-out data is then answered, and not only less badly than by confident nonsense."""
    own, made = score["train"], found["mended"]
    if made["right"] is not None and valid.target is not None:
        frequent = float(torch.bincount(valid.target.flatten().long().cpu()).max()) / len(valid.target)
        return made["right"] - frequent >= MOST_OF_IT * (own["right"] - frequent)
    return base is not None and base - made["loss"] >= MOST_OF_IT * (base - own["loss"])


def _closes(found: dict[str, Any]) -> float:
    return float(found.get("recovered", 0.0))


def _told(change: Change) -> dict[str, Any]:
    return {"kind": change.kind, "text": change.text, "apart": change.apart}


def _score(made: Answers, target: Tensor | None, labels: bool) -> dict[str, float | None]:
    right = renamed.right(renamed.taken(made.output, target, labels=labels))
    return {"loss": float(made.losses.mean()), "right": right}


def _renamed(
    train: tuple[Part, Answers], valid: tuple[Part, Answers], labels: bool, middle: float | None
) -> dict[str, Any] | None:
    """Classes of the held-out part that stand for others, with ``before``, what was right as labelled."""
    pairs = [
        renamed.answers(made.output, part.target, middle)
        if middle is not None
        else renamed.taken(made.output, part.target, labels=labels)
        for part, made in (train, valid)
    ]
    own, raw = pairs
    if own is None or raw is None:
        return None
    found = renamed.renamed(*raw, train=renamed.right(own) or 0.0)
    if found is not None and _refuted(train[0], valid[0], dict(found["moved"])):
        return None
    return None if found is None else found | {"before": renamed.right(raw)}


def _refuted(train: Part, valid: Part, moved: dict[int, int]) -> bool:
    """Whether the inputs of classes that are said to stand for others are not those of the others.

    Of tokens that is not known. Of two classes each may be taken for the other where nothing was trained.
    """
    one, two, target = train.inputs, valid.inputs, valid.target
    if target is None or not one.is_floating_point() or one.shape[1:] != two.shape[1:]:
        return False
    if len(moved) == 2 and far(*unlike(one, two)):
        return True
    new = torch.tensor([moved.get(c, c) for c in range(int(target.max()) + 1)], dtype=target.dtype)
    after = new[target.flatten().long().cpu()].reshape(target.shape)
    return not matched.agrees((one, train.target), (two, target), (two, after))


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
