"""What loading gives: a training and a validation pair, the task, and names for columns and classes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from torch import Tensor

from downslope.core.sources import Origin, Stream
from downslope.data.windows import Windows

Task = Literal["classification", "regression"]
Pair = tuple[Tensor, Tensor]


class Table(NamedTuple):
    """A named data set, split."""

    train: Pair
    """Inputs, float32 with examples on axis 0, and targets, int64 class indices or float32, shape (n,)."""
    valid: Pair | None
    """The same, of the examples held out; None where a share of 0 was asked for."""
    task: Task
    """What the target is: class indices or numbers."""
    features: list[str]
    """Names of the columns, or of the pixels of an image in row order."""
    classes: list[str]
    """What each class index stands for; empty for regression."""
    told: tuple[str, ...] = ()
    """Where it comes from, one sentence each."""
    reading: Mapping[str, Any] = MappingProxyType({})
    """How a file becomes such examples, where one can (`downslope.data.again`)."""
    target: str = ""
    origins: tuple[None, None] = (None, None)
    doubts: tuple[str, ...] = ()


class Loaded(NamedTuple):
    """Data from a file, split, with what was decided on the way. The first five fields are `Table`'s."""

    train: Pair
    valid: Pair | None
    task: Task
    features: list[str]
    classes: list[str]
    target: str
    """The name of the target's column or array."""
    told: list[str]
    """Every decision that the file did not spell out, one sentence each."""
    origins: tuple[Origin, Origin]
    """Where in the file the training examples stand, and those held out."""
    doubts: tuple[str, ...] = ()
    """What of `told` is a guess about how the file is to be read, which one must see."""
    reading: Mapping[str, Any] = MappingProxyType({})
    """How a file becomes such examples, in plain values (`downslope.data.again`)."""


class Streamed(NamedTuple):
    """Classified examples that memory does not hold, read anew in every epoch."""

    train: Stream
    valid: Stream | None
    classes: list[str]
    told: list[str]
    reading: Mapping[str, Any]
    task: Task = "classification"
    features: tuple[str, ...] = ()
    target: str = "folder"
    origins: tuple[None, None] = (None, None)
    doubts: tuple[str, ...] = ()


class Text(NamedTuple):
    """A text, cut by position into a training and a validation part, for next-token prediction."""

    train: Windows
    valid: Windows | None
    classes: list[str]
    """What each token stands for; bytes as ``"\\x00"`` to ``"\\xff"``."""
    told: list[str]
    """Every decision that the file did not spell out, one sentence each."""
    reading: Mapping[str, Any]
    """How a text becomes tokens, in plain values (`downslope.data.again`)."""
    task: Literal["language"] = "language"
    features: tuple[str, ...] = ()
    target: str = "the next token"
    origins: tuple[None, None] = (None, None)
    doubts: tuple[str, ...] = ()
