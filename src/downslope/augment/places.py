"""Where inputs and target stand in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from downslope.core import batches
from downslope.core.errors import InputError

WHOLE = None
"""Place of the inputs in a batch that is nothing but them."""

PIXELS = "pixel_values"
"""Key of the images in the batches of the transformers library."""


@dataclass(frozen=True)
class Places:
    """Keys or positions of inputs and target; None stands for the whole batch, and for no target."""

    inputs: str | int | None
    target: str | int | None

    def inputs_of(self, batch: Any) -> Any:
        """The inputs.

        Raises:
            InputError: the batch has no such key or position.
        """
        return batch if self.inputs is None else _at(batch, self.inputs)

    def target_of(self, batch: Any) -> Any:
        """The target, None where there is none of its own.

        Raises:
            InputError: the batch has no such key or position.
        """
        return None if self.target is None else _at(batch, self.target)

    def put(self, batch: Any, inputs: Tensor, target: Any) -> Any:
        """A new batch of the same structure with these two parts."""
        if self.inputs is None:
            return inputs
        new = {self.inputs: inputs} | ({} if self.target is None else {self.target: target})
        if isinstance(batch, Mapping):
            return {**cast("Mapping[Any, Any]", batch), **new}
        items = list(cast("tuple[Any, ...]", batch))
        for place, value in new.items():
            items[cast("int", place)] = value
        made: Any = type(batch)
        return made(*items) if hasattr(made, "_fields") else made(items)


def places_of(batch: Any) -> Places:
    """Where `fit` takes inputs and target from, unless a `split` of the user's says otherwise.

    Raises:
        InputError: a dict in which more than one tensor could be the inputs, or none.
    """
    if isinstance(batch, Tensor):
        return Places(WHOLE, None)
    if isinstance(batch, Mapping):
        entries = cast("Mapping[str, Any]", batch)
        target = batches.target_key(entries)
        floating = [
            key
            for key, value in entries.items()
            if key != target and isinstance(value, Tensor) and value.is_floating_point()
        ]
        if PIXELS in entries:
            return Places(PIXELS, target)
        if len(floating) != 1:
            raise InputError(
                f"augment: the batch is a dict with {len(floating)} floating tensors beside its labels "
                f"({', '.join(map(repr, floating)) or 'none'}): chain(..., inputs=KEY, target=KEY) says which"
            )
        return Places(floating[0], target)
    kind = type(batch).__name__
    count = len(cast("tuple[Any, ...]", batch)) if isinstance(batch, tuple | list) else 0
    if not count:
        raise InputError(f"augment: a batch must be a tensor, a tuple or a dict, and is {kind}")
    return Places(0, -1 if count > 1 else None)


def _at(batch: Any, place: str | int) -> Any:
    try:
        return batch[place]
    except (KeyError, IndexError, TypeError):
        raise InputError(
            f"augment: the batch has nothing at {place!r}, where its inputs or target were said to be"
        ) from None
