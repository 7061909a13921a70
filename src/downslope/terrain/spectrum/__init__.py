"""Eigenvalues of an operator that is only known by its products, each with its error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.spectrum.condition import Condition, condition
    from downslope.terrain.spectrum.density import density
    from downslope.terrain.spectrum.diagonal import Diagonal, diagonal
    from downslope.terrain.spectrum.distribution import Density
    from downslope.terrain.spectrum.estimate import Estimate
    from downslope.terrain.spectrum.extremes import Spectrum, extremes
    from downslope.terrain.spectrum.trace import trace

__all__ = [
    "Condition",
    "Density",
    "Diagonal",
    "Estimate",
    "Spectrum",
    "condition",
    "density",
    "diagonal",
    "extremes",
    "trace",
]

lazily(
    __name__,
    {
        "condition": "Condition condition",
        "density": "density",
        "diagonal": "Diagonal diagonal",
        "distribution": "Density",
        "estimate": "Estimate",
        "extremes": "Spectrum extremes",
        "trace": "trace",
    },
)
