"""Values of a problem's data that are not finite, each place named as its owner finds it again.

A file is named by line and column, arrays by part, row and column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from downslope.core import batches
from downslope.core.batches import Split
from downslope.core.sources import Memory, Origin
from downslope.data.inspect import Facts, non_finite


class Place(NamedTuple):
    """Where one value stands that is not finite."""

    file: str | None
    """The file that it was read from; None of an array."""
    at: int
    """Line of a text from 1, row of an array from 0."""
    said: str
    """In words, such as "wine.csv line 813, column 'alcohol'"."""
    value: str


class Gap(NamedTuple):
    """The values of one tensor that are not finite."""

    kind: str
    """"inputs" or "target"."""
    facts: Facts
    """What `non_finite` says."""
    places: list[Place]
    """The first of them, at most `inspect.MOST_TOLD`, in the order of the file or of the array."""
    part: str
    """"train" or "valid"."""

    @property
    def place(self) -> str:
        """Where the first stands."""
        return self.places[0].said

    @property
    def said(self) -> str:
        """Place and value, and how many there are."""
        count, first = self.facts["count"], self.places[0]
        # The order is that of the file, of which the other part has lines too.
        where = "" if first.file is None else f" in the {self.part} part"
        return f"{first.said}: {first.value}" + (
            "" if count == 1 else f" (the first of {count} values that are not finite{where})"
        )


def gaps(source: Memory, split: Split, part: str) -> Iterator[Gap]:
    """The tensors of `source` that hold values that are not finite, inputs first.

    Args:
        source: One part of a problem's data.
        split: ``batch -> (args, kwargs, target)``.
        part: Its name in messages: "train" or "valid".
    """
    args, kwargs, target = split(source.batch)
    inputs = [*((str(i), each) for i, each in enumerate(args)), *kwargs.items()]
    leaves = [(name, each) for name, tree in inputs for each in batches.tensors(tree)]
    several = len(leaves) > 1
    named = [("inputs", f"input {name}" if several else "inputs", each) for name, each in leaves]
    named += [("target", "target", each) for each in batches.tensors(target)]
    origin = source.origin
    for kind, what, tensor in named:
        found = non_finite(tensor, None if origin is None else origin.at)
        if not found["count"]:
            continue
        some: list[Facts] = found["some"]
        places = [
            Place(None, each["row"], _in_arrays(part, what, each), each["value"])
            if origin is None
            else Place(origin.file, int(origin.at[each["row"]]), *_in_file(origin, kind, each))
            for each in some
        ]
        yield Gap(kind, found, places, part)


def _in_arrays(part: str, what: str, first: Facts) -> str:
    return f"{part} {what}, row {first['row']}{_within(first['index'])} (counted from 0)"


def _in_file(origin: Origin, kind: str, first: Facts) -> tuple[str, str]:
    """The place, and the value or what the cell holds instead of one."""
    at, value = int(origin.at[first["row"]]), first["value"]
    place = f"{origin.file} {origin.unit} {at}"
    if origin.unit == "line":
        name = origin.target if kind == "target" else origin.columns[first["column"]]
        cell = (origin.spelt or {}).get((at, str(name)))
        return f"{place}, column {name!r}", value if cell is None else f"{cell!r} is no number"
    array = origin.target if kind == "target" else origin.inputs
    return f"{place} of {array!r}{_within(first['index'])} (counted from 0)", value


def _within(index: Sequence[int]) -> str:
    """The place within an example: a column of a table, an index of anything larger."""
    if not index:
        return ""
    return f", column {index[0]}" if len(index) == 1 else f", at {list(index)}"
