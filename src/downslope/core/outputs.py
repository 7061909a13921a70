"""Outputs of several parts: the tensor that stands for all of them, and what of them is example by example.

Models of transformers and of those who follow them return an object or a dict with ``logits``, and a ``loss``
where they were given labels; recurrent ones return states beside their output.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor

from downslope.core import batches

_TORCH = ("torch.nn.modules.loss", "torch.nn.functional")


class Answer(NamedTuple):
    """What of an output is example by example."""

    output: Any
    """A tensor; or a dict, of objects too, or a tuple of several; None where nothing is."""
    left_out: tuple[tuple[int, ...], ...]
    """Shapes of the tensors that are not."""


def logits(output: Any) -> Tensor | None:
    """The tensor `logits` of an output that is an object or dict which holds one; None of any other."""
    if isinstance(output, Tensor):
        return None
    if isinstance(output, Mapping):
        found: Any = cast("Mapping[Any, Any]", output).get("logits")
    else:
        found = getattr(output, "logits", None)
    return found if isinstance(found, Tensor) else None


def judged(output: Any) -> list[Tensor]:
    """The tensors by which an output is judged: its `logits`, or without them all that have a dimension."""
    found = logits(output)
    return [each for each in batches.tensors(output) if each.dim()] if found is None else [found]


def takes_tensor(function: Any) -> bool:
    """Whether an objective or metric is one of this package or of torch, which all read one tensor."""
    while isinstance(function, functools.partial):
        function = cast("functools.partial[Any]", function).func
    if getattr(function, "expects", None) is not None or getattr(function, "takes_tensor", False):
        return True
    own: Any = function if hasattr(function, "__qualname__") else type(function)
    return getattr(own, "__module__", None) in _TORCH


def read_by(function: Any, output: Any) -> Any:
    """What an objective or metric is handed of `output`: named ones its `logits`, one's own the whole."""
    found = logits(output)
    return output if found is None or not takes_tensor(function) else found


def measured_by(metric: Any, output: Any, count: int) -> Any:
    """What a metric is handed of an output of `count` examples.

    It is what `read_by` says; and where one tensor alone is by example (beside the states of an LSTM) named
    metrics get that one.
    """
    found = read_by(metric, output)
    if isinstance(found, Tensor) or not takes_tensor(metric):
        return found
    alone = by_example(found, count).output
    return alone if isinstance(alone, Tensor) else found


def with_logits(output: Any, change: Callable[[Any], Any]) -> Any:
    """``change(output)``; of an output that holds `logits` a copy in which they are changed."""
    found = logits(output)
    if found is None:
        return change(output)
    made: Any = change(found)
    if hasattr(output, "_replace"):
        return output._replace(logits=made)
    whole: Any = copy.copy(output)
    if isinstance(output, Mapping):
        whole["logits"] = made
    if not isinstance(output, Mapping) or "logits" in cast("dict[str, Any]", getattr(whole, "__dict__", {})):
        object.__setattr__(whole, "logits", made)
    return whole


def by_example(output: Any, count: int, beside: tuple[Any, int] | None = None) -> Answer:
    """The tensors of `output` whose first dimension is that of the examples.

    Args:
        output: Of the model.
        count: Examples that it was made of.
        beside: Another output of the same model and its other number of examples, by which a dimension that
            happens to be `count` long is known from that of the examples.
    """
    left: list[tuple[int, ...]] = []
    other, size = beside or (None, count)
    return Answer(_kept(output, count, other, size, left), tuple(left))


def _kept(output: Any, count: int, other: Any, size: int, left: list[tuple[int, ...]]) -> Any:
    if isinstance(output, Tensor):
        if not output.dim():
            return None
        if output.shape[0] == count and (
            not isinstance(other, Tensor) or (other.dim() > 0 and other.shape[0] == size)
        ):
            return output
        left.append(tuple(output.shape))
        return None
    parts, others = _parts(output), _parts(other)
    found = {key: _kept(each, count, others.get(key), size, left) for key, each in parts.items()}
    found = {key: each for key, each in found.items() if each is not None}
    if type(output) in (tuple, list):
        return next(iter(found.values())) if len(found) == 1 else tuple(found.values()) or None
    return found["logits"] if list(found) == ["logits"] else found or None


def _parts(output: Any) -> dict[Any, Any]:
    """Names, or places, of what an output holds."""
    if isinstance(output, Mapping):
        return dict(cast("Mapping[Any, Any]", output))
    if hasattr(output, "_asdict"):
        return output._asdict()
    if isinstance(output, (tuple, list)):
        return dict(enumerate(cast("Sequence[Any]", output)))
    return dict(getattr(output, "__dict__", {}))
