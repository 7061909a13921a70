"""CMA-ES: a normal distribution whose mean and covariance follow the better half of each generation.

Hansen and Ostermeier 2001, Completely derandomized self-adaptation in evolution strategies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.errors import InputError
from downslope.tuning.samplers.modelled import Modelled

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Cma(Modelled):
    """Optuna's `CmaEsSampler`. For many trials of numbers; choices and conditional keys are drawn at random.

    Raises:
        InputError: the package cmaes is not installed.
    """

    name = "cma"

    def make(self, seed: int) -> BaseSampler:
        """Optuna's.

        Raises:
            InputError: the package cmaes is not installed.
        """
        from importlib.util import find_spec

        from optuna.samplers import CmaEsSampler

        if find_spec("cmaes") is None:
            raise InputError(
                "sampler='cma' needs the package cmaes: pip install 'downslope[cma]'; 'tpe' needs none"
            )
        return CmaEsSampler(seed=seed, warn_independent_sampling=False)
