"""Many layers that each shrink the gradient: deep sigmoid and tanh nets without norms or residuals."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault

FLAT = names(net="mlp mlp-custom")


@fault("vanishing-gradient", bases=FLAT, grades={"1 sigmoid": 1, "6 sigmoids": 6, "10 sigmoids": 10})
def deep_sigmoid(base: Base, depth: int) -> Sick:
    return Sick(base.problem(act="sigmoid", depth=depth), base.recipe)
