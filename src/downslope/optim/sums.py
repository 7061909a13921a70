"""Sums over a tensor or over everything, taken before the step of the rules that need them.

    for each link that measures, in the order of the chain:  add up,  settle its scalars;  then step

A total over everything spans groups, dtypes and devices: buckets whose chains have the same link wait for one
another. Totals are float64, added in the order of the parameters, so that they do not hang on threads.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.layout import Bucket
from downslope.optim.rule import Scalars
from downslope.optim.totals import are_finite, total

__all__ = ["take_sums"]

Key = tuple[type, int]
"""The class of a link, and how many of that class stand before it in its chain."""


def take_sums(work: Sequence[tuple[Bucket, list[Tensor]]]) -> None:
    """Settles every link that needs sums, in all buckets that have begun their step."""
    pending = [(bucket, grads, list(bucket.chain.measuring)) for bucket, grads in work]
    left = sum(len(todo) for *_, todo in pending)
    while left:
        for bucket, grads, todo in pending:
            own = list(itertools.takewhile(functools.partial(_is_local, bucket), todo))
            for i in own:
                bucket.settle(i, _measured(bucket, i, grads))
            del todo[: len(own)]
        heads = [_key(bucket, todo[0]) for bucket, _, todo in pending if todo]
        ready = [key for key in dict.fromkeys(heads) if _waits_for_none(key, pending)]
        if heads and not ready:
            raise RecipeError(
                "rules that add up over all parameters stand in different orders in the chains of this "
                "optimizer; put them in one order"
            )
        for key in ready:
            there = [(b, grads, todo) for b, grads, todo in pending if todo and _key(b, todo[0]) == key]
            _settle_globally([(b, grads, todo.pop(0)) for b, grads, todo in there])
        before, left = left, sum(len(todo) for *_, todo in pending)
        if left == before:
            raise RuntimeError(f"{left} links that add up wait for ever: report this chain of rules, please")


def _settle_globally(there: Sequence[tuple[Bucket, list[Tensor], int]]) -> None:
    parts = [_measured(bucket, i, grads) for bucket, grads, i in there]
    home = parts[0][0].device
    link = there[0][0].chain.links[there[0][2]]
    totals: dict[str, Tensor] = {}
    for n, (name, peak) in enumerate(zip(link.measures, link.peak, strict=True)):
        each = [total(part[n], peak).to(home) for part in parts]
        totals[name] = each[0] if len(each) == 1 else total(torch.stack(each), peak)
    for bucket, _, i in there:
        bucket.settle(i, Scalars(**totals))


def _measured(bucket: Bucket, i: int, grads: list[Tensor]) -> list[Tensor]:
    """The totals of a bucket; where one is not finite, of elements in float64, whose squares hold more."""
    found = bucket.measure(i, grads)
    if bucket.kernel is not None or are_finite(found):
        return found
    return bucket.measure(i, grads, wide=True)


def _is_local(bucket: Bucket, i: int) -> bool:
    return bucket.chain.links[i].scope != "global"


def _key(bucket: Bucket, i: int) -> Key:
    kind = type(bucket.chain.links[i])
    return kind, sum(type(link) is kind for link in bucket.chain.links[:i])


def _waits_for_none(key: Key, pending: Sequence[tuple[Bucket, list[Tensor], list[int]]]) -> bool:
    """Whether every bucket that has this link to settle has nothing to settle before it."""
    return all(_key(bucket, i) != key or i == todo[0] for bucket, _, todo in pending for i in todo)
