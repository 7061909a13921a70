"""The elastic net: L1 and L2 at once (Zou and Hastie 2005, J. R. Stat. Soc. B 67)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.penalties.l1 import L1
from downslope.objectives.penalties.l2 import L2
from downslope.objectives.penalties.penalty import Penalty

_L1, _L2 = L1(1.0), L2(1.0)


@dataclass(frozen=True, repr=False)
class Elastic(Penalty):
    """``strength (ratio sum |w| + (1 - ratio) / 2 sum w**2)``: of equal inputs it keeps all, L1 one.

    Spelt as scikit-learn's ``ElasticNet(alpha, l1_ratio)``, whose squared error is halved.

    Args:
        l1_ratio: the share of L1, in [0, 1].
    """

    kind: ClassVar[str] = "elastic"
    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.l1_ratio
        if not isinstance(given, (int, float)) or not 0 <= given <= 1:
            raise ObjectiveError(f"elastic: l1_ratio={given!r}: must lie in [0, 1], it is the share of L1")

    def of(self, weights: Tensor) -> Tensor:
        """Both, by their shares."""
        return self.l1_ratio * _L1.of(weights) + (1 - self.l1_ratio) * _L2.of(weights)
