"""What kind of ground a run ended on: the facts of the survey at its end, classified as `survey` does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from downslope.core.numerals import numeral
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.terrain.surveys.kind import FLAT, STILL, Judged, View, classify

SURE = 2.0
"""Residuals by which an eigenvalue has to be away from zero. Convention."""


class Footing(NamedTuple):
    """Where a run stands."""

    judged: Judged
    """Its kind, with the way from a constant guess to what is reachable for the loss's scale."""
    view: View
    """What that was told from."""
    way: float
    """That way; 0 where nothing is known of it."""

    @property
    def flat(self) -> bool:
        """Whether slope and curvature together lead nowhere. `survey` calls such ground critical where
        the slope is nothing beside the curvature; a run far from what is reachable stands still on either.
        """
        return self.judged.change <= FLAT

    @property
    def bend(self) -> float:
        """What the negative curvature alone wins over the move, as a share of the way."""
        won = -0.5 * self.view.low * self.view.reach**2
        return won / self.way if self.way > 0 else math.inf

    @property
    def curvatures(self) -> str:
        """The extreme curvatures with their residuals, in words."""
        low, high = _within(self.view.low, self.view.low_error), _within(self.view.high, self.view.high_error)
        return f"the curvatures lie between {low} and {high}"


def footing(run: Run, *, still: float = STILL, negative: float = 0.0) -> Footing:
    """The ground at the last weights of a run that has the fact ``ground``.

    Args:
        run: The run.
        still: What the slope may win over a move by the reach, as a share of the way, where it is still.
        negative: Smallest eigenvalue, negated, in the largest magnitude of one, from which it counts.
    """
    ground: Mapping[str, Any] = run.facts["ground"]
    how = progress(run)
    way = abs((how.constant or 0.0) - (how.reachable or 0.0))
    view = View(
        slope=float(ground["reach"]) * float(ground["grad_norm"]),
        high=float(ground["lambda_max"]), low=float(ground["lambda_min"]), reach=float(ground["reach"]),
        scale=way, high_error=SURE * float(ground["lambda_max_residual"]),
        low_error=SURE * float(ground["lambda_min_residual"]),
    )  # fmt: skip
    return Footing(classify(view, still=still, flat=FLAT, negative=negative), view, way)


def _within(value: float, error: float) -> str:
    return numeral(value, 2) + (f" +- {numeral(error / SURE, 1)}" if error else "")
