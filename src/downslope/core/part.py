"""What of an output or a target belongs to one of several tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor

from downslope.core.errors import ObjectiveError


def part(tree: Any, task: str, tasks: Sequence[str], what: str, who: str = "composite") -> Any:
    """The part of `tree` that is the task's.

    Of a dict, or an object with such attributes, the entry of its name; of a tuple or list the one at its
    place; a tensor is every task's.

    Args:
        tree: An output or a target.
        task: One of `tasks`.
        tasks: All of them, in their order.
        what: "output" or "target", for messages.
        who: What asks, for messages.

    Raises:
        ObjectiveError: there is no such part.
    """
    if isinstance(tree, Tensor):
        return tree
    if isinstance(tree, Mapping):
        if task in tree:
            return cast("Mapping[str, Any]", tree)[task]
        known = ", ".join(map(str, cast("Mapping[str, Any]", tree)))
        raise ObjectiveError(f"{who}: the {what} has no {task!r}; it has: {known}")
    if type(tree) not in (tuple, list) and hasattr(tree, task):
        return getattr(tree, task)
    if isinstance(tree, (tuple, list)):
        items = cast("Sequence[Any]", tree)
        if len(items) == len(tasks):
            return items[list(tasks).index(task)]
        raise ObjectiveError(
            f"{who}: the {what} has {len(items)} parts for {len(tasks)} tasks "
            f"({', '.join(tasks)}); give one for each, or a dict by name"
        )
    raise ObjectiveError(
        f"{who}: the {what} is {type(tree).__name__}; it must be a tensor, or a dict or tuple of them"
    )
