"""What kind of ground a run ended on: the facts of the survey at its end, classified as `survey` does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from downslope.core.numerals import numeral
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.terrain.kind import FLAT, Judged, View, classify

STILL = 0.02
"""What the slope wins over a move by a tenth of the weights' size, as a share of the way. A bound, not the
gain itself as in `downslope.terrain.kind`, whose limit is therefore lower."""

NEGATIVE = 0.05
"""Smallest eigenvalue, negated, in the largest magnitude of one; nets on their way down have about 0.05."""

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
    def bend(self) -> float:
        """What the negative curvature alone wins over the move, as a share of the way."""
        won = -0.5 * self.view.low * self.view.reach**2
        return won / self.way if self.way > 0 else math.inf

    @property
    def curvatures(self) -> str:
        """The extreme curvatures with their residuals, in words."""
        low, high = _within(self.view.low, self.view.low_error), _within(self.view.high, self.view.high_error)
        return f"the curvatures lie between {low} and {high}"


def footing(run: Run) -> Footing:
    """The ground at the last weights of a run that has the fact ``ground``."""
    ground: Mapping[str, Any] = run.facts["ground"]
    how = progress(run)
    way = abs((how.constant or 0.0) - (how.reachable or 0.0))
    view = View(
        slope=float(ground["reach"]) * float(ground["grad_norm"]),
        high=float(ground["lambda_max"]), low=float(ground["lambda_min"]), reach=float(ground["reach"]),
        scale=way, high_error=SURE * float(ground["lambda_max_residual"]),
        low_error=SURE * float(ground["lambda_min_residual"]),
    )  # fmt: skip
    return Footing(classify(view, still=STILL, flat=FLAT, negative=NEGATIVE), view, way)


def _within(value: float, error: float) -> str:
    return numeral(value, 2) + (f" +- {numeral(error / SURE, 1)}" if error else "")
