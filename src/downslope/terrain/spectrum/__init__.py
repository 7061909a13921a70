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
        "Condition": "downslope.terrain.spectrum.condition:Condition",
        "condition": "downslope.terrain.spectrum.condition:condition",
        "density": "downslope.terrain.spectrum.density:density",
        "Diagonal": "downslope.terrain.spectrum.diagonal:Diagonal",
        "diagonal": "downslope.terrain.spectrum.diagonal:diagonal",
        "Density": "downslope.terrain.spectrum.distribution:Density",
        "Estimate": "downslope.terrain.spectrum.estimate:Estimate",
        "Spectrum": "downslope.terrain.spectrum.extremes:Spectrum",
        "extremes": "downslope.terrain.spectrum.extremes:extremes",
        "trace": "downslope.terrain.spectrum.trace:trace",
    },
)
