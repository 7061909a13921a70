"""What `solve` gives: the minimum, how exact it is, and what kind of minimum it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.core.problem import Problem

Kind = Literal["strictly-convex", "many-minima", "not-attained", "undecided"]

DIGITS = 15.95
"""Decimal digits of float64."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What proves how close the answer is; measured on the model itself, apart from how it was found.

    Attributes:
        gradient_norm: Of the objective with its penalty, by all weights, by automatic differentiation in
            float64. Under a constraint, of what is left of it inside the set (the projected gradient).
        gap: ``J - J*`` at most; infinite where nothing bounds it.
        gap_from: "quadratic" (exact for a quadratic), "duality", "curvature" (near the minimum), or "".
        distance: Length from the weights to the nearest minimum at most; infinite where nothing bounds it.
        orthogonality: Largest cosine between the residual and a column of the data, for least squares
            without a penalty; None otherwise.
    """

    gradient_norm: float
    gap: float = math.inf
    gap_from: str = ""
    distance: float = math.inf
    orthogonality: float | None = None

    def __str__(self) -> str:
        parts = [f"gradient norm {numeral(self.gradient_norm)}"]
        if math.isfinite(self.gap):
            parts.append(f"J - J* at most {numeral(self.gap)} ({self.gap_from})")
        if math.isfinite(self.distance):
            parts.append(f"weights within {numeral(self.distance)} of a minimum")
        if self.orthogonality is not None:
            parts.append(f"residual orthogonal to the data to {numeral(self.orthogonality)}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The exact answer to a convex problem.

    Attributes:
        objective: J with the penalty, at the minimum; where no minimum is attained, its infimum if that is
            known, else the lowest value found.
        loss: Without the penalty and in the user's units: what ``run.summary["train_loss"]`` would be.
        kind: "strictly-convex" (one minimum), "many-minima" (a flat valley of them; the one with the shortest
            weights is given), "not-attained" (lower and lower towards infinity), "undecided".
        certificate: What proves it.
        method: How it was found, in words.
        l2: Strength of the penalty.
        steps: Newton's steps; 0 where none were needed.
        rank: Of the data with its column of ones.
        columns: Number of its columns.
        condition: Largest over smallest singular value of the data; the normal equations square it.
        notes: What is to be known, one line each.
        weights: Parameters by name, float64; where no minimum is attained, the direction that separates.
    """

    objective: float
    loss: float
    kind: Kind
    certificate: Certificate
    method: str
    l2: float
    steps: int = 0
    rank: int
    columns: int
    condition: float
    notes: tuple[str, ...] = ()
    weights: Mapping[str, Tensor] = field(repr=False)
    problem: Problem = field(repr=False)

    def model(self) -> nn.Module:
        """The model with the exact weights, in float64 and eval mode.

        Raises:
            ModelError: no minimum is attained, so that no weights are the best.
        """
        if self.kind == "not-attained":
            raise ModelError(
                "no weights are the best: the classes can be separated, so the objective falls for ever as "
                "the weights grow; l2=1e-3 gives a minimum, and solution.weights a direction that separates"
            )
        model = self.problem.build().double()
        model.load_state_dict(self.weights, strict=False)
        return model.eval()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the weights."""
        certificate = {key: getattr(self.certificate, key) for key in Certificate.__dataclass_fields__}
        keys = ("objective", "loss", "kind", "method", "l2", "steps", "rank", "columns", "condition")
        table = {key: getattr(self, key) for key in keys}
        return plain(table | {"notes": list(self.notes), "certificate": certificate})

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """What one reads: value, method, proof, notes."""
        ends = {"not-attained": "infimum ", "undecided": "at most "}.get(self.kind, "")
        apart = self.kind != "not-attained" and abs(self.loss - self.objective) > 1e-12 * abs(self.loss)
        penalty = f" (train loss {self.loss:.6g})" if apart else ""
        head = f"objective {ends}{self.objective:.12g}{penalty}"
        return [f"{head}, {self.kind}, by {self.method}", str(self.certificate), *self.notes]
