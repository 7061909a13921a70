"""Fisher blocks of layers as Kronecker products: what goes in and comes back, factors, their inverse."""

from __future__ import annotations

from downslope.terrain.kronecker.factors import (
    Block,
    Factors,
    Rows,
    eigenvectors,
    factors_of,
    gradient_of,
    inverse,
    rows_of,
    second_moment,
    solve,
)
from downslope.terrain.kronecker.layers import Layer, layers_of, why_without
from downslope.terrain.kronecker.taps import Call, Taps

__all__ = [
    "Block",
    "Call",
    "Factors",
    "Layer",
    "Rows",
    "Taps",
    "eigenvectors",
    "factors_of",
    "gradient_of",
    "inverse",
    "layers_of",
    "rows_of",
    "second_moment",
    "solve",
    "why_without",
]
