"""A slice of the ground: values over one or two directions, with what stands and moves on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.terrain.hvp import length

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Axis(NamedTuple):
    """One axis of a slice."""

    name: str
    coordinates: Floats
    """Ascending."""
    length: float = 1.0
    """How far the weights move by a coordinate of 1."""


class Mark(NamedTuple):
    """A place on a slice that has a name."""

    at: tuple[float, ...]
    name: str
    value: float
    kind: str = "here"
    """"here", "minimum", "saddle", "maximum" or "end"."""


class Trail(NamedTuple):
    """A way over a slice."""

    name: str
    at: Floats
    """Shape (steps + 1, axes); NaN where it left the numbers."""
    values: Floats
    """Of the function or of the slice's quantity on the way; NaN where unknown."""
    note: str = ""


class Accuracy(NamedTuple):
    """How far interpolated values are from evaluated ones, by points that were left out to tell."""

    rms: float
    """Root mean square of the relative errors."""
    worst: float
    """The largest relative error."""
    checked: int
    """Points it was measured at."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Values of a loss or a metric over one or two directions in the space of the weights.

    Attributes:
        title: What is sliced.
        quantity: "loss", or the name of the metric.
        axes: One or two.
        values: ``values[i, j]`` at the i-th coordinate of the first axis and the j-th of the second; NaN and
            infinity as they were found, NaN also where nothing was evaluated.
        evaluated: Where the function was evaluated; elsewhere a value is interpolated or missing.
        accuracy: Of the interpolated values; None where there are none.
        marks: Named places.
        trails: Ways over it.
        notes: What is to be known, a sentence each.
        seconds: It took.
        interrupted: Whether it was ended before all points were there.
        higher: Whether higher is better, as of an accuracy.
        log: Whether it is best drawn on a logarithmic scale.
    """

    title: str
    quantity: str
    axes: tuple[Axis, ...]
    values: Floats = field(repr=False)
    evaluated: Bools = field(repr=False)
    accuracy: Accuracy | None = None
    marks: tuple[Mark, ...] = ()
    trails: tuple[Trail, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False
    higher: bool = False
    log: bool = False
    origin: Tensor | None = field(default=None, repr=False)
    vectors: tuple[Tensor, ...] = field(default=(), repr=False)

    @property
    def missing(self) -> Bools:
        """Where there is no value, since the work was ended before."""
        return ~self.evaluated & np.isnan(self.values)

    @property
    def nonfinite(self) -> int:
        """Points at which the value is NaN or infinite."""
        return int((self.evaluated & ~np.isfinite(self.values)).sum())

    @property
    def lowest(self) -> Mark | None:
        """The lowest point of the grid (of a metric where higher is better, the highest)."""
        good = np.where(np.isfinite(self.values), self.values, -np.inf if self.higher else np.inf)
        if not np.isfinite(self.values).any():
            return None
        where = np.unravel_index(int(good.argmax() if self.higher else good.argmin()), good.shape)
        at = tuple(float(axis.coordinates[i]) for axis, i in zip(self.axes, where, strict=True))
        return Mark(at, "highest" if self.higher else "lowest", float(self.values[where]))

    def with_trails(self, trails: tuple[Trail, ...]) -> Slice:
        """The same slice with ways over it."""
        return replace(self, trails=trails)

    def project(self, weights: Tensor) -> tuple[tuple[float, ...], float]:
        """Coordinates of a flat vector of weights on the slice, and how far from it the vector lies.

        Args:
            weights: Shape (size,).

        Raises:
            InputError: of another size, or a slice of no model.
        """
        if self.origin is None or weights.numel() != self.origin.numel():
            own = "no weights" if self.origin is None else f"{self.origin.numel()} weights"
            raise InputError(f"{weights.numel()} weights cannot be projected: this slice has {own}")
        return project(self.origin, self.vectors, weights)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the grid row by row, marks, ways and notes."""
        return plain({
            "title": self.title,
            "quantity": self.quantity,
            "axes": [{"name": a.name, "coordinates": a.coordinates, "length": a.length} for a in self.axes],
            "values": self.values,
            "evaluated": int(self.evaluated.sum()),
            "points": int(self.values.size),
            "non_finite": self.nonfinite,
            "missing": int(self.missing.sum()),
            "accuracy": None if self.accuracy is None else self.accuracy._asdict(),
            "marks": [each._asdict() for each in self.marks],
            "paths": [each._asdict() for each in self.trails],
            "notes": list(self.notes),
            "seconds": self.seconds,
            "interrupted": self.interrupted,
        })  # fmt: skip

    def plot(self, kind: str = "contour") -> Any:
        """A plotly figure.

        Args:
            kind: "contour" or "surface"; a slice of one direction is a line.
        """
        return names.load("downslope.reporting.notebook:plotly_figure")(self, kind)

    def save(self, path: str | Path, kind: str = "contour") -> Path:
        """Write it: ``.html`` a page to turn and zoom, ``.png``, ``.svg`` or ``.pdf`` a still, ``.json`` the
        numbers.

        Args:
            path: Where.
            kind: "contour" or "surface", of a still.

        Raises:
            InputError: another ending, or a place that cannot be written.
        """
        return names.load("downslope.reporting.notebook:save")(self, path, kind)

    def _repr_html_(self) -> str:
        return names.load("downslope.reporting.report:report")(self)._repr_html_()

    def __repr__(self) -> str:
        size = " x ".join(str(len(axis.coordinates)) for axis in self.axes)
        low = self.lowest
        told = "no finite value" if low is None else f"{low.name} {numeral(low.value)} at {_place(low.at)}"
        return f"Slice({self.title}: {self.quantity} at {size} points, {told})"


def _place(at: Sequence[float]) -> str:
    return f"({', '.join(numeral(each) for each in at)})"


def project(origin: Tensor, vectors: Sequence[Tensor], weights: Tensor) -> tuple[tuple[float, ...], float]:
    """Coordinates by least squares, and the distance that is left."""
    basis = torch.stack([each.double() for each in vectors], dim=1)
    away = (weights.double().cpu() - origin.double().cpu()).unsqueeze(1)
    basis = basis.cpu()
    gram = basis.T @ basis
    linalg: Any = torch.linalg
    found: Tensor = linalg.solve(gram, basis.T @ away)
    at: list[float] = found[:, 0].tolist()
    return tuple(at), length((away - basis @ found).reshape(-1))


def grid(axes: Sequence[Axis]) -> Floats:
    """Coordinates of all points, the last axis fastest; shape (points, axes)."""
    across = np.meshgrid(*(axis.coordinates for axis in axes), indexing="ij")
    return np.stack([each.reshape(-1) for each in across], axis=1)


def logarithmic(values: Floats) -> bool:
    """Whether values are positive and spread over so many decades that a plain scale would hide them."""
    good = values[np.isfinite(values)]
    return (
        bool(len(good)) and float(good.min()) > 0 and math.log10(float(good.max()) / float(good.min())) > 1.5
    )
