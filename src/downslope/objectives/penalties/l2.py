"""L2, the ridge: the negative logarithm of a Gaussian prior (Hoerl and Kennard 1970, Technometrics)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from downslope.objectives.penalties.penalty import Penalty


@dataclass(frozen=True, repr=False)
class L2(Penalty):
    """``strength / 2 sum w**2``, whose gradient is ``strength w``.

    Beside a mean over n examples it is a Gaussian prior of variance ``1 / (n strength)`` on every weight: the
    minimum is the most probable weight. Under plain gradient descent it is weight decay of the same number;
    under Adam it is not, for there the decay of `Recipe` is added to the gradient, or, with "adamw", kept
    apart from it. scikit-learn's ``Ridge(alpha)`` has ``alpha = n strength / 2`` against `squared_error`, its
    ``LogisticRegression(C)`` has ``C = 1 / (n strength)``.
    """

    kind: ClassVar[str] = "l2"

    def of(self, weights: Tensor) -> Tensor:
        """Half the sum of squares."""
        flat = weights.flatten()
        return flat.dot(flat) / 2
