"""Bayesian optimisation with a Gaussian process.

Snoek, Larochelle and Adams 2012, Practical Bayesian optimization of machine learning algorithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.tuning.samplers.modelled import Modelled

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class Gp(Modelled):
    """Optuna's `GPSampler`. For few and dear trials: 0.1 to 0.4 s of one core a draw, to 400 trials.

    Conditional keys are drawn independently of the process.
    """

    name = "gp"

    def make(self, seed: int) -> BaseSampler:
        """Optuna's; what a seed makes of a value counts as noise."""
        from optuna.samplers import GPSampler

        return GPSampler(seed=seed, deterministic_objective=False, warn_independent_sampling=False)
