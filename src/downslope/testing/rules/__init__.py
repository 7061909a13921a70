"""Proofs that an optimizer inherits: `RuleContract`, and what its cases are made of."""

from downslope.testing.rules.case import (
    SHAPES,
    STEPS,
    TOLERANCE,
    Case,
    Descent,
    Hand,
    gradients,
    parameters,
    run,
)
from downslope.testing.rules.contract import RuleContract

__all__ = [
    "SHAPES",
    "STEPS",
    "TOLERANCE",
    "Case",
    "Descent",
    "Hand",
    "RuleContract",
    "gradients",
    "parameters",
    "run",
]
