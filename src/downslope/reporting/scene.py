"""What moves over which ground: places by frame, the heights below them, and a curve beside the map."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.reporting.heat import heat
from downslope.terrain.functions import Function
from downslope.terrain.slices.slice import Mark
from downslope.terrain.slices.surface import marks_of

Floats = npt.NDArray[np.float64]
Span = tuple[tuple[float, float], ...]

FRAMES = 120
"""Frames of an animation; where there are more steps, some are passed over."""
_CELLS = 81


@dataclass(frozen=True)
class Mover:
    """One method, or one start: its members at every step, so that no turn of a path is lost between frames.

    Attributes:
        label: In the legend.
        places: Shape (steps, members, size).
        heights: Of the places; shape (steps, members).
        curve: What is drawn over the step beside the map; shape (steps,).
        told: Words after the label at each frame, such as "12/20 left"; empty for none.
    """

    label: str
    places: Floats
    heights: Floats
    curve: Floats
    told: tuple[str, ...] = ()

    def at(self, step: int) -> int:
        """Index of a step; a path that has ended stays at its end."""
        return min(step, len(self.places) - 1)


@dataclass(frozen=True)
class Scene:
    """A ground and what moves on it.

    Attributes:
        title: Above the picture.
        caption: What it shows, in words and numbers.
        axes: Grid along each coordinate.
        heights: Of the grid: shape (len(x),) on a line, (len(y), len(x)) on a plane.
        movers: In the order of the legend.
        steps: The step that each frame shows.
        curve: What the curves beside the map are of: "f" or "share that left".
        marks: The critical points of the ground, as far as they are known.
    """

    title: str
    caption: str
    axes: tuple[Floats, ...]
    heights: Floats
    movers: tuple[Mover, ...]
    steps: tuple[int, ...]
    curve: str
    marks: tuple[Mark, ...] = ()

    @property
    def flat(self) -> bool:
        """Whether the ground is a line, drawn from the side."""
        return len(self.axes) == 1

    def shade(self) -> Floats:
        """Heights of a plane as they are shaded: by their logarithm where a few steep parts hide the rest."""
        above = self.heights - np.nanmin(self.heights)
        steep = bool(np.nanmax(above) > 10 * np.nanmedian(above) > 0)
        return heat(self.heights, steep).z


def scene(
    paths: Mapping[str, Any],
    function: Function | Callable[[Tensor], Tensor],
    *,
    span: Sequence[Sequence[float]] | None = None,
    title: str = "",
    frames: int = FRAMES,
    left: Mapping[str, Floats] | None = None,
    marks: Sequence[Mark] = (),
) -> Scene:
    """Paths over a function.

    Args:
        paths: Places by name, from the start on: shape (steps + 1, size), or (steps + 1, members, size) of
            several members; size 1 or 2.
        function: Of points of shape (..., size), giving (...).
        span: Lower and upper end of each coordinate; left out, a classic function's, else the paths'.
        title: Above the picture; a classic function's formula where left out.
        frames: At most.
        left: Step at which each member of a path left, infinite where it did not; the share that left is
            drawn in place of the height.
        marks: Points of note; of a classic function its critical points where left out.

    Raises:
        InputError: no path, paths of other sizes than 1 or 2, or of different ones.
    """
    arrays = {label: _places(label, path) for label, path in paths.items()}
    if not arrays:
        raise InputError("an animation needs at least one path")
    sizes = {each.shape[-1] for each in arrays.values()}
    if len(sizes) > 1 or not sizes <= {1, 2}:
        raise InputError(
            f"paths of {sorted(sizes)} coordinates: an animation shows 1 or 2, the same in all; project them"
        )
    longest = max(len(each) for each in arrays.values())
    steps = np.unique(np.linspace(0, longest - 1, min(frames, longest)).round().astype(int))
    known = function if isinstance(function, Function) else None
    limits = _span(span, known, list(arrays.values()))
    cells = 301 if len(limits) == 1 else _CELLS
    axes = tuple(np.linspace(low, high, cells) for low, high in limits)
    grid = np.stack(np.meshgrid(*axes), -1)
    movers = [_mover(label, each, function, steps, (left or {}).get(label)) for label, each in arrays.items()]
    heading = title or (f"{known.name.replace('_', ' ')}: {known.formula}" if known else "Paths")
    return Scene(
        heading, _caption(movers, int(steps[-1]), bool(left)), axes, _heights(function, grid), tuple(movers),
        tuple(int(each) for each in steps), "share that left" if left else "f",
        tuple(each for each in marks or (marks_of(known) if known else ()) if _within(each.at, limits)),
    )  # fmt: skip


def _places(label: str, path: Any) -> Floats:
    given = path.detach().cpu() if isinstance(path, Tensor) else path
    places = np.asarray(given, dtype=np.float64)
    places = places[:, None] if places.ndim == 2 else places
    if places.ndim != 3 or not len(places) or not places.shape[1]:
        raise InputError(
            f"path {label!r} has shape {places.shape}: must be (steps + 1, size), or with members between"
        )
    return places


def _span(given: Sequence[Sequence[float]] | None, known: Function | None, paths: Sequence[Floats]) -> Span:
    if given is not None:
        found = tuple((float(low), float(high)) for low, high in given)
        if len(found) != paths[0].shape[-1] or not all(low < high for low, high in found):
            raise InputError(f"span={given}: must be a lower and an upper end for each coordinate")
        return found
    if known is not None:
        return known.domain
    every = np.concatenate([each.reshape(-1, each.shape[-1]) for each in paths])
    every = every[np.isfinite(every).all(1)]
    if not len(every):
        raise InputError("the paths hold no finite place, so there is no ground to show: give span=")
    low, high = every.min(0), every.max(0)
    room = np.maximum(0.15 * (high - low), 1e-3 * np.maximum(np.abs(low), 1.0))
    return tuple((float(a), float(b)) for a, b in zip(low - room, high + room, strict=True))


def _heights(function: Callable[[Tensor], Tensor], places: Floats) -> Floats:
    with torch.no_grad():
        found = function(torch.from_numpy(np.ascontiguousarray(places)))
    values: Floats = found.detach().numpy().astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _mover(
    label: str, places: Floats, function: Callable[[Tensor], Tensor], steps: Any, left: Floats | None
) -> Mover:
    heights = _heights(function, places)
    if left is None:
        return Mover(label, places, heights, np.median(heights, axis=1))
    gone = (left[None] <= np.arange(len(places))[:, None]).sum(1)
    told = tuple(f"{gone[min(step, len(gone) - 1)]}/{len(left)} left" for step in steps)
    return Mover(label, places, heights, gone / len(left), told)


def _within(point: Sequence[float], limits: Span) -> bool:
    return all(low <= x <= high for x, (low, high) in zip(point, limits, strict=True))


def _caption(movers: Sequence[Mover], last: int, left: bool) -> str:
    if left:
        ends = ", ".join(f"{each.label} {each.told[-1]}" for each in movers)
    else:
        ends = ", ".join(f"{each.label} {_number(each.curve[-1])}" for each in movers)
    return f"After {last} steps: {ends}."


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"
