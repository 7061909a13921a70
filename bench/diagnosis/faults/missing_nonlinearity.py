"""Layers upon layers without an activation: one affine map. Where the data is linear it does no harm."""

from __future__ import annotations

from bench.diagnosis.base import Base, names
from bench.diagnosis.fault import Sick, fault


@fault("missing-nonlinearity", bases=names(net="mlp mlp-custom"), grades={"2 layers": 2, "4 layers": 4})
def identity(base: Base, depth: int) -> Sick:
    return Sick(base.problem(act="identity", depth=depth), base.recipe)
