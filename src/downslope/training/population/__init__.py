"""Populations: many members of one problem, trained together where that is exact and faster."""

from __future__ import annotations

from downslope.training.population.fit_population import fit_population

__all__ = ["fit_population"]
