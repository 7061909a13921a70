"""The terrain: curvature of the loss and noise of its gradient, measured without forming a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.terrain.critical.critical import CriticalPoints, critical_points
    from downslope.terrain.escapes.escape import escape
    from downslope.terrain.escapes.trials import Escapes, Trial
    from downslope.terrain.hvp import Hessian
    from downslope.terrain.lanczos import Extremes, Ritz, lanczos
    from downslope.terrain.noise import Noise, noise_from_norms, noise_scale
    from downslope.terrain.sharpness import Sharpness, sharpness
    from downslope.terrain.spectrum import (
        Condition,
        Density,
        Diagonal,
        Estimate,
        Spectrum,
        condition,
        density,
        diagonal,
        extremes,
        trace,
    )
    from downslope.terrain.stability import Stability, stability

__all__ = [
    "Condition",
    "Density",
    "Diagonal",
    "CriticalPoints",
    "Escapes",
    "Estimate",
    "Extremes",
    "Hessian",
    "Noise",
    "Ritz",
    "Sharpness",
    "Spectrum",
    "Stability",
    "Trial",
    "condition",
    "density",
    "diagonal",
    "critical_points",
    "escape",
    "extremes",
    "lanczos",
    "noise_from_norms",
    "noise_scale",
    "sharpness",
    "stability",
    "trace",
]

lazily(
    __name__,
    {
        "critical.critical": "CriticalPoints critical_points",
        "escapes.escape": "escape",
        "escapes.trials": "Escapes Trial",
        "hvp": "Hessian",
        "lanczos": "Extremes Ritz lanczos",
        "noise": "Noise noise_from_norms noise_scale",
        "sharpness": "Sharpness sharpness",
        "spectrum": "Condition Density Diagonal Estimate Spectrum condition density diagonal extremes trace",
        "stability": "Stability stability",
    },
)
