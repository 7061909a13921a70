"""Samplers of a search by name: random (the default), grid, sobol, tpe, gp, cma."""

from __future__ import annotations

from typing import Any

from downslope.core import names
from downslope.core.errors import UnknownNameError
from downslope.tuning.samplers.random import Random
from downslope.tuning.samplers.sampler import Sampler, Seen, drawn

__all__ = ["SAMPLERS", "Random", "Sampler", "Seen", "drawn", "sampler_of"]

_HERE = "downslope.tuning.samplers"

SAMPLERS = {
    "random": f"{_HERE}.random:Random",
    "grid": f"{_HERE}.grid:Grid",
    "sobol": f"{_HERE}.sobol:Sobol",
    "tpe": f"{_HERE}.tpe:Tpe",
    "gp": f"{_HERE}.gp:Gp",
    "cma": f"{_HERE}.cma:Cma",
}

_ALIASES = {
    "qmc": "sobol",
    "quasi_random": "sobol",
    "cma_es": "cma",
    "cmaes": "cma",
    "bayes": "gp",
    "bayesian": "gp",
    "bayesian_optimization": "gp",
    "uniform": "random",
}


def sampler_of(name: Any) -> type[Sampler]:
    """The class of the sampler `name`.

    Raises:
        UnknownNameError: no such sampler; the nearest is told.
    """
    spelt = str(name).strip().lower().replace("-", "_").replace(" ", "_")
    spelt = _ALIASES.get(spelt, spelt)
    if spelt not in SAMPLERS:
        raise UnknownNameError(f"sampler={name!r} is not known{names.did_you_mean(spelt, SAMPLERS)}")
    return names.load(SAMPLERS[spelt])
