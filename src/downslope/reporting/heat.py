"""Values as colours: a scale that every reader can tell apart, plain or logarithmic."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from downslope.reporting.numerals import numeral
from downslope.terrain.slices.slice import Floats

SCALE = [
    [0.0, "#0b2a4a"], [0.14, "#123f6b"], [0.28, "#2a5b86"], [0.42, "#547a99"], [0.56, "#8297a4"],
    [0.7, "#aeb3a6"], [0.85, "#d8d0a0"], [1.0, "#f5e9a4"],
]  # fmt: skip
"""Dark blue for low to pale yellow for high: lightness and the blue-yellow axis alone tell, as in cividis
(Nuñez, Anderton and Renslow 2018), so that those who confuse red and green see the same."""

FLOOR = 1e-3
"""Height above the lowest at which a logarithmic scale begins, in the median's."""


class Heat(NamedTuple):
    """Values as they are coloured."""

    z: Floats
    low: float
    high: float
    ticks: list[float]
    texts: list[str]
    log: bool
    shift: float

    @property
    def rounded(self) -> Floats:
        """`z` to a ten-thousandth of the scale, finer than any eye."""
        return np.round(self.z, 4 - math.ceil(math.log10(self.high - self.low)))

    def of(self, values: Floats) -> Floats:
        """Further values on the same scale."""
        if not self.log:
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log10(np.maximum(values - self.shift, 10.0**self.low))


def heat(values: Floats, log: bool) -> Heat:
    """How to colour `values`: ends, ticks; where logarithmic, of the height above the lowest.

    What lies above the 99th part of a hundred of a plain scale by more than three times its width is drawn as
    its top, so that one wild corner does not take all the colours.
    """
    good = values[np.isfinite(values)]
    if not len(good):
        return Heat(np.full(values.shape, np.nan), 0.0, 1.0, [0.0, 1.0], ["", ""], False, 0.0)
    bottom, top = float(good.min()), float(good.max())
    if not log:
        bulk = float(np.quantile(good, 0.97))
        high = bulk if top - bottom > 4 * (bulk - bottom) > 0 else top
        high = high if high > bottom else bottom + (abs(bottom) or 1.0)
        ticks = np.linspace(bottom, high, 6).tolist()
        texts = [numeral(each) for each in ticks]
        texts[-1] += " and above" if high < top else ""
        return Heat(np.where(np.isfinite(values), values, np.nan), bottom, high, ticks, texts, False, 0.0)
    positive = bottom > 0 and top / bottom < 1e6
    shift = 0.0 if positive else bottom
    least = bottom if positive else FLOOR * ((float(np.median(good)) - bottom) or (top - bottom) or 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = np.log10(np.maximum(values - shift, least))
    low, high = float(np.log10(least)), float(np.log10(max(top - shift, least * 10)))
    ticks = [float(each) for each in np.linspace(low, high, 6)]
    texts = [numeral(10.0**each + shift, 2) for each in ticks]
    return Heat(np.where(np.isfinite(values), z, np.nan), low, high, ticks, texts, True, shift)
