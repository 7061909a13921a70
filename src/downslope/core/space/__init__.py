"""The space of a search: a dimension for each hyper-parameter, their text, and points applied to a recipe."""

from __future__ import annotations

from downslope.core.space.applied import applied, draw, holding, read, settled
from downslope.core.space.dimension import (
    Choice,
    Dimension,
    Integer,
    Log,
    OneMinus,
    Space,
    Uniform,
    When,
)
from downslope.core.space.ranges import choice, integer, log, one_minus, uniform, when
from downslope.core.space.spelt import FORMS, parse

__all__ = [
    "FORMS",
    "Choice",
    "Dimension",
    "Integer",
    "Log",
    "OneMinus",
    "Space",
    "Uniform",
    "When",
    "applied",
    "choice",
    "draw",
    "holding",
    "integer",
    "log",
    "one_minus",
    "parse",
    "read",
    "settled",
    "uniform",
    "when",
]
