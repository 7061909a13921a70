"""What a survey gives: the terrain around a point, what kind of point it is, and where it leads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from downslope.core import names
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.terrain.convexity.convexity import Convexity
from downslope.terrain.noise import Noise
from downslope.terrain.spectrum import Density
from downslope.terrain.surveys import telling
from downslope.terrain.surveys.kind import Kind
from downslope.terrain.surveys.profile import Profile

POINTS = 512
"""Points of a density that a document holds at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Escape:
    """A direction of negative curvature, or a way down that samples found, and what it leads to.

    Attributes:
        curvature: Along it, below zero; of a maximised problem above. Where samples found the way that no
            curvature shows, zero within `error`, or NaN on a kink without curvature.
        error: Residual and rounding of `curvature`.
        by_name: The direction as tensors, by parameter; together they have length 1.
        flat: The same as one vector, shape (size,).
        profile: The loss measured along it, both ways.
        fall: How far the loss falls along it at most (rises, of a maximised problem), measured.
        at: Length of the move at which it is best.
    """

    curvature: float
    error: float
    by_name: Mapping[str, Tensor] = field(repr=False)
    flat: Tensor = field(repr=False)
    profile: Profile = field(repr=False)
    fall: float
    at: float

    @property
    def sampled(self) -> bool:
        """Whether samples of the loss found it, and not curvature."""
        return not abs(self.curvature) > self.error


@dataclass(frozen=True, kw_only=True)
class Known:
    """The nearest critical point of a test function.

    Attributes:
        function: Its name.
        kind: What the critical point is.
        at: Where it is.
        value: The function there.
        is_global: Of a minimum, whether none lies lower.
        distance: From where the survey stands.
    """

    function: str
    kind: str
    at: tuple[float, ...]
    value: float
    is_global: bool
    distance: float

    def __str__(self) -> str:
        which = ("the global " if self.is_global else "a local ") if self.kind == "minimum" else "a "
        place = ", ".join(numeral(each) for each in self.at)
        return f"{which}{self.kind} of {self.function} at ({place}), {numeral(self.distance)} from here"


@dataclass(frozen=True)
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
        degenerate: Whether the eigenvalues alone do not tell the kind: all are zero within their errors, or
            some are and the others of one sign; samples of the loss told.
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
        flat: Number of `eigenvalues` that are zero within their error: directions in which nothing bends.
        index: Number of negative eigenvalues beyond their error; where not `complete`, at least that.
        escape: Direction of the most negative curvature, or where that shows none of the furthest fall that
            samples found; None where nothing leads down or the slope does.
        layers: Curvature of each layer's block.
        convexity: Whether the problem is convex, and how that is known; None where it was cut short.
        known: On a test function, the critical point next to here; local or global.
        density: How the eigenvalues are distributed, where it was asked for.
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
    flat: int
    index: int
    escape: Escape | None
    layers: tuple[Layer, ...]
    convexity: Convexity | None
    known: Known | None
    density: Density | None
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
            "sharpness", "trace", "trace_error", "flat", "index", "slope_gain", "reach", "scale", "size",
            "examples", "products", "seconds", "maximize", "interrupted",
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
            "convexity": None if self.convexity is None else self.convexity.to_dict(),
            "known": None if self.known is None else asdict(self.known),
            "density": None if self.density is None else _thinned(self.density),
            "noise_scale": None if self.noise_scale is None else self.noise_scale._asdict(),
            "negative_mass": self.negative_mass,
            "stable_rates": dict(self.stable_rates),
            "notes": list(self.notes),
        }  # fmt: skip
        return plain(table)

    def lines(self) -> list[str]:
        """What one reads: kind and reason, the numbers, and what is to be known."""
        told = [f"{label:<8}{text}" for label, text in self.labelled()]
        return [f"{self.kind}: {self.why}", *told, *(f"{'note':<8}{each}" for each in self.notes)]

    def labelled(self) -> list[tuple[str, str]]:
        """The measurements, a line each, with the word that stands before it ("" goes on with the last)."""
        return telling.labelled(self)

    @property
    def negative_mass(self) -> float | None:
        """Share of all eigenvalues that are negative; None where not all of them were seen."""
        if self.complete:
            return self.index / self.size
        return None if self.density is None else self.density.negative.value

    def __str__(self) -> str:
        return "\n".join(self.lines())


def _thinned(made: Density) -> dict[str, Any]:
    """The density at `POINTS` places at most."""
    step = max(math.ceil(len(made.grid) / POINTS), 1)
    kept = {key: getattr(made, key)[::step].tolist() for key in ("grid", "values", "error")}
    return kept | {"width": made.width, "zero": made.zero, "outliers": made.outliers[-POINTS:].tolist()}


def turned(found: Terrain) -> Terrain:
    """The numbers of the objective itself, of a terrain that was measured with a minus sign."""
    way = found.escape
    if way is not None:
        way = replace(way, curvature=-way.curvature, profile=way.profile.negated())
    layers = tuple(replace(each, trace=-each.trace) for each in found.layers)
    return replace(
        found, loss=-found.loss, eigenvalues=-found.eigenvalues.flip(0), residuals=found.residuals.flip(0),
        trace=-found.trace,
        index=int((found.eigenvalues > found.residuals).sum()), escape=way, layers=layers, maximize=True,
        notes=(*found.notes, "maximised: this is the terrain of the objective itself; the learning rate sees "
               "its mirror image, whose largest curvature is the sharpness"),
    )  # fmt: skip
