"""What a survey gives: the terrain around a point, what kind of point it is, and where it leads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from downslope.core import names
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.terrain.kind import Kind
from downslope.terrain.noise import Noise
from downslope.terrain.profile import Profile

ARTICLES = {
    "minimum": "a minimum", "maximum": "a maximum", "saddle": "a saddle", "plateau": "a plateau",
    "slope": "a slope",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Escape:
    """A direction of negative curvature, and what it leads to.

    Attributes:
        curvature: Along it, below zero.
        error: Residual and rounding of `curvature`; NaN of a direction found by samples.
        by_name: The direction as tensors, by parameter; together they have length 1.
        flat: The same as one vector, shape (size,).
        profile: The loss measured along it, both ways.
    """

    curvature: float
    error: float
    by_name: Mapping[str, Tensor] = field(repr=False)
    flat: Tensor = field(repr=False)
    profile: Profile = field(repr=False)

    @property
    def fall(self) -> float:
        """How far the loss falls along it at most, measured."""
        return self.profile.fall

    @property
    def at(self) -> float:
        """Signed length of the move at which it is lowest."""
        return self.profile.at


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The curvature of one layer's block of the Hessian.

    Attributes:
        name: Of the module that holds the parameters.
        size: Number of them.
        trace: Sum of the block's eigenvalues.
        trace_error: Standard error of `trace`; 0 where it is exact.
        sharpness: Largest eigenvalue of the block; NaN where it was not measured.
        sharpness_error: Residual of `sharpness`.
    """

    name: str
    size: int
    trace: float
    trace_error: float
    sharpness: float = float("nan")
    sharpness_error: float = float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Terrain:
    """The terrain around a point. Of a maximised problem it is that of the objective itself.

    Attributes:
        kind: "minimum", "maximum", "saddle", "plateau" or "slope" (no critical point).
        why: How that is known, in one sentence.
        strict: Of a minimum or maximum, whether every eigenvalue has its sign beyond its error.
        degenerate: Whether the second-order test was silent, so that samples of the loss had to tell.
        loss: Here, with its penalties.
        gradient_norm: Length of the slope.
        eigenvalues: Of the Hessian, largest first, float64; all where `complete`, else those of both ends.
        residuals: Of `eigenvalues`, with rounding: an exact eigenvalue lies within.
        complete: Whether `eigenvalues` are all there are.
        condition: Largest over smallest magnitude of an eigenvalue; infinite where one is zero within its
            error. Where not `complete`, at least that.
        sharpness: Largest curvature of what is gone down on, the one that limits the learning rate.
        trace: Sum of all eigenvalues.
        trace_error: Standard error of `trace`; 0 where it is exact.
        index: Number of negative eigenvalues beyond their error; where not `complete`, at least that.
        escape: Direction of the most negative curvature, where there is one.
        layers: Curvature of each layer's block.
        noise_scale: Batch size at which noise and signal of the gradient are equal, with its moments.
        stable_rates: Largest stable learning rate by method.
        slope_gain: What following the slope could win within `reach`.
        reach: Length of the move that is reckoned with: a tenth of the weights' size.
        scale: What counts as much of the loss.
        size: Number of trained parameters.
        examples: Number of examples that the loss is taken over.
        products: Hessian-vector products.
        seconds: Taken.
        maximize: Whether the problem is maximised.
        interrupted: Whether Ctrl-C cut it short.
        notes: What is to be known, a sentence each.
    """

    kind: Kind
    why: str
    strict: bool
    degenerate: bool
    loss: float
    gradient_norm: float
    eigenvalues: Tensor
    residuals: Tensor
    complete: bool
    condition: float
    sharpness: float
    trace: float
    trace_error: float
    index: int
    escape: Escape | None
    layers: tuple[Layer, ...]
    noise_scale: Noise | None
    stable_rates: Mapping[str, float]
    slope_gain: float
    reach: float
    scale: float
    size: int
    examples: int
    products: int
    seconds: float
    maximize: bool = False
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    def plot(self) -> Any:
        """The terrain as a `plotly.graph_objects.Figure`: spectrum with errors, layers, escape."""
        return names.load("downslope.reporting.terrain:plot")(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the directions themselves are left out."""
        kept = (
            "kind", "why", "strict", "degenerate", "loss", "gradient_norm", "complete", "condition",
            "sharpness", "trace", "trace_error", "index", "slope_gain", "reach", "scale", "size", "examples",
            "products", "seconds", "maximize", "interrupted",
        )  # fmt: skip
        table: dict[str, Any] = {key: getattr(self, key) for key in kept}
        way = self.escape
        table |= {
            "eigenvalues": self.eigenvalues.tolist(),
            "residuals": self.residuals.tolist(),
            "escape": None if way is None else {
                "curvature": way.curvature, "error": way.error, "fall": way.fall, "at": way.at,
                "lengths": list(way.profile.lengths), "losses": list(way.profile.losses),
            },
            "layers": [asdict(each) for each in self.layers],
            "noise_scale": None if self.noise_scale is None else self.noise_scale._asdict(),
            "stable_rates": dict(self.stable_rates),
            "notes": list(self.notes),
        }  # fmt: skip
        return plain(table)

    def lines(self) -> list[str]:
        """What one reads: kind and reason, eigenvalues with errors, the way down, stable rates, notes."""
        found = [f"{self.kind}: {self.why}", *self.numbers()]
        if (way := self.escape) is not None:
            found.append(
                f"way down: the loss falls by {numeral(way.fall)} along curvature "
                f"{numeral(way.curvature)} +- {numeral(way.error, 2)} (measured)"
            )
        return [*found, *self.notes]

    def numbers(self) -> list[str]:
        """The measurements, a line each."""
        values: list[float] = self.eigenvalues.tolist()
        errors: list[float] = self.residuals.tolist()
        pairs = [_within(v, e) for v, e in zip(values, errors, strict=True)]
        least = f"; smallest {pairs[-1]}" if len(pairs) > 3 else ""
        spread = [f"condition {'' if self.complete else 'at least '}{numeral(self.condition)}"]
        if math.isfinite(self.trace):
            spread.append(f"trace {_within(self.trace, self.trace_error)}")
        told = [
            f"loss {numeral(self.loss, 4)}, slope {numeral(self.gradient_norm)} (could win "
            f"{numeral(self.slope_gain, 2)})",
            f"{len(pairs) if self.complete else 'both'} eigenvalues: {', '.join(pairs[:3])}{least}",
            ", ".join(spread),
        ]
        if self.stable_rates:
            rates = ", ".join(f"{name} {numeral(rate)}" for name, rate in self.stable_rates.items())
            told.append(f"stable up to lr: {rates}")
        return told

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _within(value: float, error: float) -> str:
    return numeral(value) + (f" +- {numeral(error, 2)}" if error else "")
