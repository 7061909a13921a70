"""What a problem states, read and checked: its goal, the split of its batches, its names in files."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from downslope.core import names
from downslope.core.batches import Split
from downslope.core.errors import DownslopeError, InputError, told


def goal_of(value: Any, metric: Any) -> float:
    """A goal as Python's own number, scalars of numpy and torch among them.

    Raises:
        InputError: no finite number, or one that the metric cannot have.
    """
    try:
        number: Any = value.item() if hasattr(value, "item") else value
    except (ValueError, RuntimeError):  # several numbers
        number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
        raise InputError(f"goal={value!r}: must be a finite number; leave it out if there is none")
    least, most = cast("tuple[float, float]", getattr(metric, "bounds", (-math.inf, math.inf)))
    if not least <= number <= most:
        share = f"; {number:g} % is {number / 100:g}" if most == 1 < number / 2 <= 50 else ""
        raise InputError(
            f"goal={number:g}: {metric.__name__} lies between {least:g} and {most:g} and never gets "
            f"there{share}"
        )
    return number


def metric_of(given: Any, objective: Any) -> Any:
    """A metric as a function; of several tasks with those of the objective.

    Raises:
        InputError: none, or of a task that the objective has not.
    """
    metric: Any = given
    if isinstance(given, str):
        metric = names.resolve("metric", given)
    elif isinstance(given, Mapping):
        metric = names.load("downslope.objectives.metrics:by_task")(given)
    elif given is not None and not callable(given):
        raise InputError(
            f"metric={given!r}: must be a name or (output, target) -> float, or of several tasks a dict of "
            "these by task"
        )
    among: Any = getattr(metric, "among", None)
    return metric if among is None else among(objective)


def split_by(split: Split, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What the user's own `split` makes of a batch.

    Raises:
        InputError: it fails, or gives something else than (args, kwargs, target).
    """
    try:
        made: Any = split(batch)
    except Exception as error:
        raise InputError(f"split failed on a batch: {told(error)}") from error
    kind = type(made).__name__
    parts = cast("tuple[Any, ...]", made) if isinstance(made, (tuple, list)) else ()
    if len(parts) != 3:
        what = f"{len(parts)} parts" if parts else kind
        raise InputError(f"split gave {what}: it must give (args, kwargs, target), such as ((x,), {{}}, y)")
    args: Any = parts[0]
    kwargs: Any = parts[1]
    kinds = [type(each).__name__ for each in parts]
    if not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
        raise InputError(
            f"split gave args of type {kinds[0]} and kwargs of type {kinds[1]}: "
            "it must give (args, kwargs, target), such as ((x,), {}, y)"
        )
    return tuple(cast("tuple[Any, ...]", parts[0])), dict(cast("Mapping[str, Any]", kwargs)), parts[2]


def without_module(reference: str) -> str:
    """A reference without the module that it is found in; settings stay."""
    head, bracket, rest = reference.partition("(")
    return head.rpartition(":")[2] + bracket + rest


def reference(thing: Any) -> str | None:
    """A name for `thing` in files: a name, "module:qualname" where it can be imported, or its repr."""
    if thing is None or isinstance(thing, str):
        return thing
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if isinstance(module, str) and isinstance(name, str):
        return f"{module}:{name}"
    kind: type[Any] = type(thing)
    if isinstance(thing, nn.Module) and not hasattr(thing, "spelling"):
        return f"{kind.__module__}:{kind.__qualname__}()"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(thing))  # an address says nothing, and changes


def bring_inside(model: nn.Module, constraint: Any) -> None:
    """Let a fresh model start inside the set of `constraint`.

    Raises:
        InputError: it fails.
    """
    try:
        with torch.no_grad():
            getattr(constraint, "prepare", constraint)(model)
    except DownslopeError:
        raise
    except Exception as error:
        raise InputError(f"the constraint failed: {told(error)}") from error


def in_words(given: Any) -> str | None:
    """The text that says an augmentation or a constraint in a file; of anybody's code its name or repr."""
    if given is None or type(given).__module__.startswith("downslope."):
        return None if given is None else str(given)
    return reference(given)
