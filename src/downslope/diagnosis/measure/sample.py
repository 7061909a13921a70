"""The samples of `downslope.training.facts.sample`, under the name by which a diagnosis calls them."""

from __future__ import annotations

from downslope.training.facts.sample import PROBED, SCORED, Held, precision, sample, scored

__all__ = ["PROBED", "SCORED", "Held", "precision", "sample", "scored"]
