"""What is to be known of the data before its solution is believed: rank, condition, columns that depend."""

from __future__ import annotations

import math

from torch import Tensor

from downslope.core.numerals import numeral
from downslope.core.sources import Memory
from downslope.terrain.exact.design import Design
from downslope.terrain.exact.solution import DIGITS, Kind
from downslope.terrain.exact.triangle import EPS, Basis, Dependence, dependent

ILL = 1e6
"""Condition from which on a note says what it costs: the normal equations keep 4 of 16 digits."""

MOST = 3
"""Columns told one by one."""


def rank_of(found: Basis) -> int:
    """Rank of the data itself, whatever a penalty adds."""
    spread = found.spread
    return int((spread > spread[0] * max(len(spread), 32) * EPS).sum())


def of_data(design: Design, found: Basis, r: Tensor, l2: float, kind: Kind) -> tuple[str, ...]:
    """The notes, the most important first."""
    rank, p = rank_of(found), design.columns
    said: list[str] = []
    if rank < p:
        listed = dependent(r, rank, ~design.free)
        told = "; ".join(_dependence(design, each) for each in listed[:MOST])
        more = f"; and {len(listed) - MOST} more" if len(listed) > MOST else ""
        chosen = (
            "; the penalty makes the weights unique" if l2 > 0 else "; of all minima, the shortest weights"
        )
        said.append(f"rank {rank} of {p} columns: {told}{more}{'' if kind == 'not-attained' else chosen}")
    elif found.condition > ILL:
        said.append(_conditioned(found))
    if kind == "many-minima" and rank == p and design.loss.classes:
        what = "biases" if l2 > 0 else "weights and biases"
        said.append(
            f"a softmax does not see what all classes have in common: {what} that sum to zero are given"
        )
    return tuple(said)


def _conditioned(found: Basis) -> str:
    raw, even = found.condition, float(found.spread[0] / found.spread[-1])
    of_units = even < 0.1 * raw  # QR does not see the lengths of columns (van der Sluis 1969)
    counted = even if of_units else raw
    kept = f"QR keeps about {max(DIGITS - math.log10(counted), 0):.0f}"
    if of_units and even <= ILL:
        return (
            f"condition {numeral(even)} with its columns brought to one length, which is what counts here: "
            f"{kept} of 16 digits; {numeral(raw)} as they stand is a matter of units"
        )
    squared = DIGITS - 2 * math.log10(counted)
    normal = f"about {squared:.0f}" if squared >= 1 else "none"
    scaled = f" with its columns brought to one length ({numeral(raw)} as they stand)" if of_units else ""
    return (
        f"condition {numeral(counted)}{scaled}: the normal equations would square it and keep {normal} of 16 "
        f"digits, {kept}"
    )


def _dependence(design: Design, each: Dependence) -> str:
    if not each.of:
        return f"{_column(design, each.column)} is zero throughout"
    terms = [_term(design, column, factor) for column, factor in each.of[:4]]
    more = " + ..." if len(each.of) > 4 else ""
    return f"{_column(design, each.column)} = {' + '.join(terms)}{more}".replace("+ -", "- ")


def _term(design: Design, column: int, factor: float) -> str:
    if bool(design.free[column]) and design.layer is not None:
        return numeral(factor)
    size = "" if abs(abs(factor) - 1) < 1e-6 else f"{numeral(abs(factor))} "
    return f"{'-' if factor < 0 else ''}{size}{_column(design, column)}"


def _column(design: Design, index: int) -> str:
    source = design.problem.train_source
    origin = source.origin if isinstance(source, Memory) else None
    if design.layer is None:
        return f"weight {index}"
    if bool(design.free[index]):
        return "the bias"
    if origin is not None and len(origin.columns) == design.layer.in_features:
        return str(origin.columns[index])
    return f"x{index}"
