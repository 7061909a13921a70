"""The verb `paths`: several optimizers from one start over one surface."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import DownslopeError, InputError, RecipeError
from downslope.core.method import optimizer_defaults
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.terrain.functions import Function, get
from downslope.terrain.functions.function import CriticalPoint
from downslope.terrain.hvp import length
from downslope.terrain.methods.method import Method
from downslope.terrain.point import ground_of
from downslope.terrain.slice import Floats, Slice, Trail
from downslope.terrain.surface import surface

Status = Literal["arrived", "going on", "diverged", "stuck", "left"]

RATES = tuple(float(f"{10.0 ** (k / 2):.1g}") for k in range(-8, 3))
"""Learning rates that are tried where none is given: 1e-4 to 10, two to a decade."""

FIRST, SEARCHED = 50, 1000
"""Steps of the trial runs: all rates take the first, the best three go on to the second."""

REACHED = 1e-8
"""Height above the lowest value at which a trial run counts as there."""

FAR = 1000.0
"""Widths of the domain from its middle at which a path counts as diverged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """Where one optimizer went.

    Attributes:
        optimizer: Its name.
        settings: It ran with; `lr` among them, where it has one.
        searched: Whether the learning rate was found by trying; how is in the notes of `Paths`.
        at: Points, shape (steps + 1, dimension).
        values: Of the function there.
        evaluations: Losses and gradients up to each point, a gradient with its loss counted once; products
            with the Hessian count as well.
        status: "arrived" where the gradient is down to rounding, "stuck" where a method of line searches
            finds nothing lower, "diverged" where it left the numbers or the neighbourhood, "left" where it
            goes down for ever and has left the domain, else "going on".
        nearest: The minimum nearest to the end; None where there is none.
        distance: To it.
        kind: Of the critical point it ended at, where that is not listed: "minimum", "maximum" or "saddle".
    """

    optimizer: str
    settings: Mapping[str, Any]
    searched: bool
    at: Floats = field(repr=False)
    values: Floats = field(repr=False)
    evaluations: tuple[int, ...] = field(repr=False)
    status: Status
    nearest: CriticalPoint | None = None
    distance: float = math.nan
    kind: str = ""

    @property
    def steps(self) -> int:
        """Steps it took."""
        return len(self.at) - 1

    @property
    def label(self) -> str:
        """Name and learning rate."""
        lr, name = self.settings.get("lr"), self.optimizer.replace("_", "-")
        return name if lr is None else f"{name}, lr {numeral(float(lr))}"

    @property
    def ended(self) -> str:
        """Where, in words."""
        if self.status == "diverged":
            return "diverged"
        if self.status == "left":
            return "downhill, out of the domain"
        if self.kind:
            return f"another {self.kind}, not listed"
        if self.nearest is None:
            return "no minimum to reach"
        kind = "global minimum" if self.nearest.is_global else "local minimum"
        return kind if self.distance < 1e-3 else f"on the way, {numeral(self.distance)} from a {kind}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Paths:
    """The ways of several optimizers over a function.

    Attributes:
        function: It went over.
        start: They began at.
        ways: One for each optimizer, in the order asked for.
        surface: The ground below, for functions of one or two coordinates, with the ways on it.
        notes: What is to be known.
        seconds: It took.
    """

    function: Function
    start: tuple[float, ...]
    ways: tuple[Way, ...]
    surface: Slice | None = field(repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def __getitem__(self, optimizer: str) -> Way:
        for way in self.ways:
            if way.optimizer == optimizer:
                return way
        raise KeyError(optimizer)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return plain({
            "function": self.function.spelt, "formula": self.function.formula, "start": self.start,
            "minima": [each.__dict__ for each in self.function.minima[:50]],
            "paths": [
                {"optimizer": w.optimizer, "settings": dict(w.settings), "searched": w.searched,
                 "steps": w.steps,
                 "evaluations": w.evaluations[-1], "end": w.at[-1], "value": w.values[-1], "status": w.status,
                 "ended": w.ended, "distance": w.distance,
                 "nearest": None if w.nearest is None else w.nearest.at, "at": w.at, "values": w.values}
                for w in self.ways
            ],
            "notes": list(self.notes), "seconds": self.seconds,
        })  # fmt: skip

    def plot(self, kind: str = "contour") -> Any:
        """A plotly figure.

        Args:
            kind: "contour", "surface" or "values", the value by evaluations.
        """
        return names.load("downslope.reporting.notebook:plotly_figure")(self, kind)

    def save(self, path: str | File, kind: str = "contour") -> File:
        """Write it, as `downslope.terrain.slice.Slice.save` does."""
        return names.load("downslope.reporting.notebook:save")(self, path, kind)

    def animate(self, **options: Any) -> Any:
        """The ways, moving: ``paths.animate().save("x.gif")``; see `downslope.reporting.animation.animate`.

        Raises:
            InputError: a function of more than two coordinates.
        """
        return names.load("downslope.reporting.animation:animate")(self, **options)

    def _repr_html_(self) -> str:
        return names.load("downslope.reporting.report:report")(self)._repr_html_()

    def __repr__(self) -> str:
        told = "; ".join(f"{way.label}: {way.ended} after {way.steps} steps" for way in self.ways)
        return f"Paths({self.function.spelt}: {told})"


def paths(
    function: str | Function,
    optimizers: str | Sequence[str] | Mapping[str, Mapping[str, Any] | float] = ("gd", "momentum", "adam"),
    *,
    start: Sequence[float] | None = None,
    steps: int = 1000,
    lr: float | Mapping[str, float] | None = None,
    points: int = 201,
) -> Paths:
    """Several optimizers from one start over a function, in float64, with exact gradients.

    A learning rate that is not given is found by trying: of 11 rates from 1e-4 to 10 the three that are
    lowest after 50 steps go on to 1000, and that which ends lowest is taken, or is there first; of a function
    without a minimum, a rate whose first step is a fiftieth of the domain. Each is told.

    Args:
        function: A function, or its name with settings: "bowl(condition=100)".
        optimizers: Names as a recipe has them, those of `downslope.terrain.methods` among them; or a mapping
            to settings (``{"momentum": {"momentum": 0.95}}``) or to a learning rate.
        start: Coordinates; left out, the function's usual start.
        steps: Of each at most, at least 1.
        lr: One learning rate for all, or by name.
        points: Of each axis of the surface.

    Returns:
        The ways and the ground below them.

    Raises:
        InputError: a start of another dimension, no optimizer, steps below 1.
        UnknownNameError: a function or an optimizer that no table holds.
        RecipeError: settings that an optimizer refuses.
    """
    made, began = get(function), time.monotonic()
    begun = made.checked(made.start if start is None else start)
    if not isinstance(steps, int) or steps < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"steps={steps!r}: must be a whole number, at least 1")
    if not optimizers:
        raise InputError("optimizers: none; name some, such as ['gd', 'momentum', 'adam']")
    notes: list[str] = []
    ways: list[Way] = []
    rates = dict(lr) if isinstance(lr, Mapping) else {}
    asked = [(names.canonical("optimizer", name), settings) for name, settings in _asked(optimizers)]
    for key in rates:
        if key not in {name for name, _ in asked}:
            raise InputError(
                f"lr for {key!r}, which does not run{names.did_you_mean(key, [n for n, _ in asked])}"
            )
    for name, settings in asked:
        given = dict(settings)
        fixed = rates.get(name, lr if isinstance(lr, (int, float)) else None)
        if fixed is not None:
            given.setdefault("lr", fixed)
        ways.append(_way(made, name, given, begun, steps, notes))
    ground = None
    if made.dimension <= 2:
        kept = [way.at for way in ways if way.status not in ("left", "diverged")]
        ground = surface(made, points=points, around=kept)
        trails = tuple(Trail(way.label, way.at, way.values, way.ended) for way in ways)
        ground = ground.with_trails(trails)
    return Paths(
        function=made, start=begun, ways=tuple(ways), surface=ground, notes=tuple(notes),
        seconds=time.monotonic() - began,
    )  # fmt: skip


def _asked(optimizers: Any) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(optimizers, str):
        optimizers = [each.strip() for each in optimizers.split(",") if each.strip()]
    if not isinstance(optimizers, Mapping):
        return [(name, {}) for name in dict.fromkeys(cast("Sequence[str]", optimizers))]
    pairs: list[tuple[str, dict[str, Any]]] = []
    given = cast("Mapping[str, Any]", optimizers)
    for name, settings in given.items():
        pairs.append((name, {"lr": settings} if isinstance(settings, (int, float)) else dict(settings)))
    return pairs


def _way(
    function: Function,
    name: str,
    given: dict[str, Any],
    start: tuple[float, ...],
    steps: int,
    notes: list[str],
) -> Way:
    """One optimizer's way; its rate is searched for where it needs one."""
    defaults = optimizer_defaults(name)
    for key in given:
        if key not in defaults:
            raise RecipeError(f"{key!r} is no setting of {name}{names.did_you_mean(key, defaults)}")
    line_search = issubclass(names.resolve("optimizer", name), Method)
    searched = "lr" not in given and "lr" in defaults and not line_search
    if searched:
        given["lr"], how = _rate(function, name, given, start, min(steps, SEARCHED))
        notes.append(f"{name}: lr {numeral(given['lr'])}, {how}")
    elif "lr" not in given and "lr" in defaults:
        given = {"lr": defaults["lr"], **given}
    at, values, evaluations, status = _run(function, name, given, start, steps)
    near = function.nearest(at[-1].tolist()) if np.isfinite(at[-1]).all() else None
    return Way(
        optimizer=name, settings=given, searched=searched, at=at, values=values, status=status,
        evaluations=evaluations, nearest=None if near is None else near[0],
        distance=math.nan if near is None else near[1],
        kind=_unlisted(function, at[-1], near) if status in ("arrived", "stuck") else "",
    )  # fmt: skip


def _unlisted(function: Function, end: Floats, near: tuple[CriticalPoint, float] | None) -> str:
    """What kind of critical point the end is, if it is one and not among the function's minima."""
    if (near is not None and near[1] < 1e-3) or function.kinks:
        return ""
    at = torch.from_numpy(end)
    linalg: Any = torch.linalg
    curved: Tensor = linalg.eigvalsh(function.hessian(at))
    size = float(curved.abs().max())
    if length(function.gradient(at)) > 1e-4 * max(size, 1e-4) or size < 1e-6:
        return ""
    eigenvalues: list[float] = curved.tolist()
    signs = {each > 0 for each in eigenvalues if abs(each) > 1e-6 * size}
    return "saddle" if len(signs) > 1 else "minimum" if True in signs else "maximum"


def _rate(
    function: Function, name: str, given: Mapping[str, Any], start: tuple[float, ...], steps: int
) -> tuple[float, str]:
    """A learning rate, and how it was found."""
    if not function.lowest:
        slope = function.gradient(torch.tensor(start, dtype=torch.float64))
        wide = max(high - low for low, high in function.domain)
        size = length(slope)
        by_size = name in ("gd", "sgd", "momentum", "nesterov")
        rate = 0.02 * wide / max(size, 0.5) if by_size else 0.02 * wide
        return float(
            f"{rate:.1g}"
        ), "a first step of a fiftieth of the domain, since there is no minimum to try for"
    lowest = function.lowest[0].value
    kept: list[float] = list(RATES)
    for many in (min(steps, FIRST), steps):
        scores: list[tuple[float, float, float]] = []
        for rate in kept:
            _, values, _, status = _run(function, name, {**given, "lr": rate}, start, many)
            if status in ("diverged", "left") or values[-1] < lowest - REACHED:
                continue
            above = np.flatnonzero(values - lowest >= REACHED)
            there = above[-1] + 1 < len(values) if len(above) else True
            height = 0.0 if there else float(values[-1]) - lowest
            scores.append((height, float(above[-1] + 1) if len(above) else 0.0, rate))
        kept = [rate for _, _, rate in sorted(scores)[:3]] or [RATES[0]]
    return kept[0], f"the best of {len(RATES)} from {RATES[0]:g} to {RATES[-1]:g} over {steps} steps"


def _run(
    function: Function, name: str, settings: Mapping[str, Any], start: tuple[float, ...], steps: int
) -> tuple[Floats, Floats, tuple[int, ...], Status]:
    """Points, values, evaluations, and how it ended."""
    walk = _Walk(function, name, settings, start)
    status: Status = "going on"
    for _ in range(steps):
        ended = walk.step()
        if ended is not None:
            status = ended
            break
    return np.array(walk.at), np.array(walk.values), tuple(walk.evaluations), status


class _Walk:
    """One optimizer on its way over a function."""

    def __init__(
        self, function: Function, name: str, settings: Mapping[str, Any], start: Sequence[float]
    ) -> None:
        self.function = function
        kind: Any = names.resolve("optimizer", name)
        self.ground: Any = None
        if issubclass(kind, Method):
            self.ground = ground_of(function.problem(start), dtype=torch.float64)
            self.point: Tensor = self.ground.params[0]
            self.ground.put(torch.tensor(start, dtype=torch.float64))
        else:
            self.point = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        try:
            self.optimizer: Any = kind([self.point], **settings)
        except DownslopeError:
            raise
        except (TypeError, ValueError) as error:
            raise RecipeError(f"optimizer {name}: {str(error).splitlines()[0]}") from None
        low, high = np.array(function.domain).T
        self.middle, self.wide = (low + high) / 2, float((high - low).max())
        self.at = [np.array(start)]
        self.values = [function.at(*start)]
        self.evaluations = [0]

    def step(self) -> Status | None:
        """One step; how it ends, where it does."""
        spent, ended = self._one_gradient() if self.ground is None else self._searched()
        if ended == "arrived" and self.ground is None:
            return ended  # nothing was moved
        here = self.point.detach().numpy().copy()
        self.at.append(here)
        self.values.append(float(self.function(self.point.detach())))
        self.evaluations.append(self.evaluations[-1] + spent)
        away = float(np.abs(here - self.middle).max()) if np.isfinite(here).all() else math.inf
        if self.function.infimum == -math.inf and self.wide < away < math.inf and self._lower():
            return "left"
        return "diverged" if away > FAR * self.wide else ended

    def _lower(self) -> bool:
        return self.values[-1] < self.values[0]

    def _one_gradient(self) -> tuple[int, Status | None]:
        self.optimizer.zero_grad()
        value = self.function(self.point)
        value.backward()
        slope = self.point.grad
        if slope is not None and length(slope) <= 1e-12 * (1 + abs(float(value.detach()))):
            return 0, "arrived"
        self.optimizer.step()
        return 1, None

    def _searched(self) -> tuple[int, Status | None]:
        self.optimizer.step(self.ground)
        last = self.optimizer.last
        spent = int(last.evaluations + last.products)
        if last.converged:
            return spent, "arrived"
        return spent, None if last.accepted else "stuck"
