"""The loss of every example, of an objective that is a mean over them: what a standard error needs."""

from __future__ import annotations

import copy
import functools
import inspect
import types
import warnings
from collections.abc import Callable, Collection
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree  # torch's own

from downslope.core import batches
from downslope.core.class_targets import IGNORED
from downslope.objectives.composite import Composite
from downslope.objectives.configured import Configured
from downslope.objectives.cross_entropy import cross_entropy
from downslope.objectives.meaning import meaning
from downslope.objectives.objective import over_examples
from downslope.objectives.penalised import Penalised

Examples = Callable[[Any, Any], Tensor]

CLOSE = 1e-3
"""Share by which the mean of what was found may miss the objective's own value; float32 rounds below it."""


def examples(objective: Any) -> Examples:
    """``(output, target) -> losses``, shape (n,), whose mean is the objective: its contribution of each row.

    The objectives of this package give it themselves, those of torch with ``reduction="none"``; any other is
    called on one row at a time, by `torch.func.vmap`. Nothing says that an objective is a mean over rows: the
    caller holds the mean against the value, to `CLOSE`. Penalties are left out.

    Args:
        objective: a callable, of Downslope, of torch or of one's own.
    """
    if isinstance(objective, Penalised):
        return examples(objective.objective)
    if isinstance(objective, Composite):
        return functools.partial(objective.examples, examples)
    if isinstance(objective, Configured):
        return functools.partial(examples(objective.function), **objective.settings)
    if getattr(objective, "expects", None) is not None and "reduction" in _arguments(objective):
        return functools.partial(objective, reduction="none")
    if isinstance(objective, nn.CrossEntropyLoss) and objective.ignore_index == IGNORED:
        settings = {"label_smoothing": objective.label_smoothing, "weight": objective.weight}
        return functools.partial(cross_entropy, reduction="none", **cast("Any", settings))
    if isinstance(objective, nn.Module) and meaning(objective).reduction == "mean":
        rows = copy.copy(objective)
        rows.reduction = "none"  # type: ignore[assignment]
        return lambda output, target: over_examples(rows(output, target))
    if not isinstance(objective, nn.Module) and meaning(objective).expects is not None:
        return lambda output, target: over_examples(objective(output, target, reduction="none"))
    return functools.partial(_one_by_one, objective)


def rows(given: Examples, output: Any, target: Any) -> Tensor | None:
    """What `given` says of a batch, without gradients, shape (n,); None where that is not what comes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of operations that vmap does one by one
            found = given(output, target).detach()
        count = _count(output, target)
    except Exception:  # noqa: BLE001 (a user's function may raise anything when it is called on one row)
        return None
    return found if found.shape == (count,) else None


def _count(output: Any, target: Any) -> int:
    """Number of examples: that of the target; of an output without one its own."""
    return batches.length(target if batches.tensors(target) else output)


def _one_by_one(objective: Callable[[Any, Any], Any], output: Any, target: Any) -> Tensor:
    flat, spec = pytree.tree_flatten((output, target))
    count = _count(output, target)
    places = [0 if leaf is output else _place(leaf, count) for leaf in flat]

    def row(*leaves: Any) -> Tensor:
        single = [leaf if at is None else leaf.unsqueeze(at) for leaf, at in zip(leaves, places, strict=True)]
        value: Any = objective(*pytree.tree_unflatten(single, spec))
        if isinstance(value, dict):
            value = functools.reduce(torch.add, cast("dict[str, Tensor]", value).values())
        return value.reshape(())

    return torch.func.vmap(row, in_dims=tuple(places))(*flat)


def _place(leaf: Any, count: int) -> int | None:
    """Along which dimension a leaf counts the examples; None of one that is alike for all of them."""
    if isinstance(leaf, Tensor):
        return batches.axis_of_examples([leaf], [count]) if leaf.dim() else None
    if leaf is None or isinstance(leaf, (str, int, float)):
        return None
    raise TypeError(f"{type(leaf).__name__} cannot be taken example by example")


def _arguments(function: Any) -> Collection[str]:
    if isinstance(function, types.FunctionType):
        return _parameters(function)
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


@functools.lru_cache(maxsize=64)
def _parameters(function: types.FunctionType) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
