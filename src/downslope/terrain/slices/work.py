"""The evaluation of a slice: all points, or some of them and splines between."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from downslope.core import names
from downslope.core.numerals import numeral
from downslope.terrain.ground.stand import running
from downslope.terrain.slices import fill
from downslope.terrain.slices.heights import Heights
from downslope.terrain.slices.slice import Accuracy, Bools, Floats, Slice, grid

PATIENCE = 20.0
"""Seconds up to which every point is evaluated, unless told otherwise."""

TOLERANCE = 1e-3
"""Root mean square of the relative errors that interpolated values may have."""


class Work:
    """The evaluation of a slice.

    Args:
        drawn: Its values and what was evaluated are filled in.
        heights: What gives the values.
        exact: Whether every point is evaluated; None where that takes no longer than `PATIENCE`.
        progress: Whether to show how far it is.

    Attributes:
        notes: What is to be known of how it was done.
        accuracy: Of what was interpolated.
        interrupted: Whether Ctrl-C ended it.
    """

    def __init__(self, drawn: Slice, heights: Heights, exact: bool | None, progress: bool) -> None:
        self.drawn, self.heights, self.exact = drawn, heights, exact
        self.notes: list[str] = []
        self.accuracy: Accuracy | None = None
        self.interrupted = False
        total = drawn.values.size
        made: Any = names.load("downslope.training.progress:Progress")
        self.bar = made(f"landscape {drawn.title}", total, shown=progress, unit="points", brief=True)

    def go(self) -> None:
        """Fill the slice; Ctrl-C ends it with what there is."""
        with self.bar:
            try:
                self._fill()
            except KeyboardInterrupt:
                self.interrupted = True
                left = int(self.drawn.missing.sum())
                self.notes.append(
                    f"ended by Ctrl-C: {left} of {self.drawn.values.size} points were not evaluated"
                )
        if bad := self.drawn.nonfinite:
            self.notes.append(
                f"{self.drawn.quantity} is not finite at {bad} of {self.drawn.values.size} points"
            )
        if self.heights.way != "one by one":
            self.notes.append(f"points were evaluated in {self.heights.way}, which was measured to be faster")

    def value_at(self, at: Sequence[float]) -> float:
        """The value at a place of its own."""
        if self.interrupted:
            return math.nan
        return self.heights.at(at)

    def _fill(self) -> None:
        shape = self.drawn.values.shape
        rough = self.exact is False or (self.exact is None and self._expected() > PATIENCE)
        if not rough or len(shape) < 2 or min(shape) < 12:
            self._evaluate(np.ones(shape, dtype=bool))
            return
        held = fill.checks(shape, fill.node_mask(shape, fill.STRIDES[-1]))  # nodes would agree by themselves
        self._evaluate(held)
        for stride in fill.STRIDES:
            self._evaluate(fill.node_mask(shape, stride))
            guessed = fill.spline([axis.coordinates for axis in self.drawn.axes], self.drawn.values, stride)
            found = None if guessed is None else fill.accuracy(guessed, self.drawn.values, held)
            if guessed is not None and found is not None and found.rms <= TOLERANCE:
                np.copyto(self.drawn.values, guessed, where=~self.drawn.evaluated)
                self.accuracy = found
                self.notes.append(_interpolated(self.drawn, found))
                return
            if guessed is None:
                break
        self.notes.append("splines between fewer points missed the tolerance, so every point was evaluated")
        self._evaluate(np.ones(shape, dtype=bool))

    def _expected(self) -> float:
        with running(self.heights.ground.model):
            return self.heights.expected(self.drawn.values.size)

    def _evaluate(self, where: Bools) -> None:
        wanted = np.flatnonzero(where & ~self.drawn.evaluated)
        points: Floats = grid(self.drawn.axes)[wanted]
        values, done = self.drawn.values.reshape(-1), self.drawn.evaluated.reshape(-1)
        if len(wanted) > 1:  # from the middle outwards, so that what is there when it is ended says most
            order = np.argsort(np.abs(points / np.abs(points).max(0).clip(1e-300)).max(1), kind="stable")
            wanted, points = wanted[order], points[order]
        before = int(done.sum())
        for at, found in self.heights.each(points):
            index = wanted[at : at + len(found)]
            values[index], done[index] = found, True
            self.bar.update(before + at + len(found))


def _interpolated(drawn: Slice, found: Accuracy) -> str:
    return (
        f"{int(drawn.evaluated.sum())} of {drawn.values.size} points were evaluated, the others lie on "
        f"splines between them: at {found.checked} points held out their relative error is "
        f"{numeral(found.rms, 2)} (root mean square), {numeral(found.worst, 2)} at most; "
        "exact=True evaluates all"
    )
