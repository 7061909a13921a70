"""Objectives: ``(output, target) -> scalar``, a mean over examples, and the metrics one cares for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.objectives.absolute_error import absolute_error
    from downslope.objectives.catalogue import catalogue
    from downslope.objectives.composite import Composite, composite
    from downslope.objectives.configured import Configured
    from downslope.objectives.cross_entropy import cross_entropy
    from downslope.objectives.elbo import elbo
    from downslope.objectives.examples import examples
    from downslope.objectives.hinge import hinge
    from downslope.objectives.huber import huber
    from downslope.objectives.likelihood import bernoulli, categorical
    from downslope.objectives.logistic import logistic
    from downslope.objectives.make import edited, make
    from downslope.objectives.meaning import Meaning, meaning
    from downslope.objectives.objective import objective
    from downslope.objectives.penalised import Penalised, penalised
    from downslope.objectives.penalties import elastic, l1, l2
    from downslope.objectives.squared_error import squared_error

__all__ = [
    "Composite",
    "Configured",
    "Meaning",
    "Penalised",
    "absolute_error",
    "bernoulli",
    "catalogue",
    "categorical",
    "composite",
    "cross_entropy",
    "edited",
    "elastic",
    "elbo",
    "examples",
    "hinge",
    "huber",
    "l1",
    "l2",
    "logistic",
    "make",
    "meaning",
    "objective",
    "penalised",
    "squared_error",
]

lazily(
    __name__,
    {
        "absolute_error": "absolute_error",
        "catalogue": "catalogue",
        "composite": "Composite composite",
        "configured": "Configured",
        "cross_entropy": "cross_entropy",
        "elbo": "elbo",
        "examples": "examples",
        "hinge": "hinge",
        "huber": "huber",
        "likelihood": "bernoulli categorical",
        "logistic": "logistic",
        "make": "edited make",
        "meaning": "Meaning meaning",
        "objective": "objective",
        "penalised": "Penalised penalised",
        "penalties": "elastic l1 l2",
        "squared_error": "squared_error",
    },
)
