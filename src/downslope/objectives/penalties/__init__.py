"""Penalties: named terms of the weights alone, added to an objective by `downslope.objectives.penalised`."""

from __future__ import annotations

from downslope.objectives.penalties.elastic import Elastic
from downslope.objectives.penalties.l1 import L1
from downslope.objectives.penalties.l2 import L2
from downslope.objectives.penalties.penalty import Penalty

elastic, l1, l2 = Elastic, L1, L2
"""As they are written: ``l2(1e-3)``."""

__all__ = ["Elastic", "L1", "L2", "Penalty", "elastic", "l1", "l2"]
