"""Data in memory, looked through once before a run: what no training can use is refused."""

from __future__ import annotations

from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.core.sources import Memory
from downslope.data.gaps import gaps
from downslope.training.targets import refuse_classes

__all__ = ["check_data"]


def check_data(problem: Problem) -> None:
    """Refuse values that are not finite, and targets that are no classes where classes are meant.

    A pass over all data: members of a population that share them are looked at once.

    Raises:
        DataError: naming the first by file, line and column, or by part, row and column.
    """
    _refuse_non_finite(problem)
    refuse_classes(problem)


def _refuse_non_finite(problem: Problem) -> None:
    """Data in memory with a NaN or infinity is refused here; `diagnose` reports it instead.

    Raises:
        DataError: naming the first by file, line and column, or by part, row and column.
    """
    for what, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        if not isinstance(source, Memory):
            continue
        found = next(gaps(source, problem.splitter, what), None)
        if found is not None:
            raise DataError(f"{found.said}; remove such rows, or {_filling(found.kind)}, and fit again")


def _filling(kind: str) -> str:
    """What else helps against a value that is not there."""
    if kind == "target":
        return "leave them out by ds.edits.LeaveOut()"
    return "fill in the mean of the feature (--set missing=mean, ds.edits.FillInputs())"
