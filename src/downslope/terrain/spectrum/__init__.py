"""Eigenvalues of an operator that is only known by its products, each with its error."""

from __future__ import annotations

from downslope.terrain.spectrum.extremes import Spectrum, extremes

__all__ = ["Spectrum", "extremes"]
