"""Objectives: ``(output, target) -> scalar``, a mean over examples, and the metrics one cares for."""

from __future__ import annotations

from downslope.objectives.absolute_error import absolute_error
from downslope.objectives.cross_entropy import cross_entropy
from downslope.objectives.elbo import elbo
from downslope.objectives.hinge import hinge
from downslope.objectives.huber import huber
from downslope.objectives.likelihood import bernoulli, categorical
from downslope.objectives.logistic import logistic
from downslope.objectives.meaning import Meaning, meaning
from downslope.objectives.objective import objective
from downslope.objectives.squared_error import squared_error

__all__ = [
    "Meaning",
    "absolute_error",
    "bernoulli",
    "categorical",
    "cross_entropy",
    "elbo",
    "hinge",
    "huber",
    "logistic",
    "meaning",
    "objective",
    "squared_error",
]
