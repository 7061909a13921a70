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
        "CriticalPoints": "downslope.terrain.critical.critical:CriticalPoints",
        "critical_points": "downslope.terrain.critical.critical:critical_points",
        "escape": "downslope.terrain.escapes.escape:escape",
        "Escapes": "downslope.terrain.escapes.trials:Escapes",
        "Trial": "downslope.terrain.escapes.trials:Trial",
        "Hessian": "downslope.terrain.hvp:Hessian",
        "Extremes": "downslope.terrain.lanczos:Extremes",
        "Ritz": "downslope.terrain.lanczos:Ritz",
        "lanczos": "downslope.terrain.lanczos:lanczos",
        "Noise": "downslope.terrain.noise:Noise",
        "noise_from_norms": "downslope.terrain.noise:noise_from_norms",
        "noise_scale": "downslope.terrain.noise:noise_scale",
        "Sharpness": "downslope.terrain.sharpness:Sharpness",
        "sharpness": "downslope.terrain.sharpness:sharpness",
        "Condition": "downslope.terrain.spectrum:Condition",
        "Density": "downslope.terrain.spectrum:Density",
        "Diagonal": "downslope.terrain.spectrum:Diagonal",
        "Estimate": "downslope.terrain.spectrum:Estimate",
        "Spectrum": "downslope.terrain.spectrum:Spectrum",
        "condition": "downslope.terrain.spectrum:condition",
        "density": "downslope.terrain.spectrum:density",
        "diagonal": "downslope.terrain.spectrum:diagonal",
        "extremes": "downslope.terrain.spectrum:extremes",
        "trace": "downslope.terrain.spectrum:trace",
        "Stability": "downslope.terrain.stability:Stability",
        "stability": "downslope.terrain.stability:stability",
    },
)
