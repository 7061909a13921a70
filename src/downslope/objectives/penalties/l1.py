"""L1, the lasso: the negative logarithm of a Laplace prior (Tibshirani 1996, J. R. Stat. Soc. B)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from downslope.objectives.penalties.penalty import Penalty


@dataclass(frozen=True, repr=False)
class L1(Penalty):
    """``strength sum |w|``, whose subgradient is ``strength sign(w)``, 0 at 0.

    Beside a mean over n examples it is a Laplace prior of scale ``1 / (n strength)``. Weights that do not pay
    for themselves end near 0, within the learning rate times `strength` of it: a subgradient step jumps over
    0 and never rests there, so a decaying rate ends nearer. scikit-learn's ``Lasso(alpha)``, which halves the
    squared error, has ``alpha = strength / 2`` against `squared_error`.
    """

    kind: ClassVar[str] = "l1"

    def of(self, weights: Tensor) -> Tensor:
        """The sum of the sizes."""
        return weights.abs().sum()
