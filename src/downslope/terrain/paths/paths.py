"""The verb `paths`: several optimizers from one start over one surface."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as File
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import InputError, RecipeError
from downslope.core.method import optimizer_defaults
from downslope.core.numerals import numeral, place
from downslope.core.plain import plain
from downslope.terrain.functions import Function
from downslope.terrain.functions.function import CriticalPoint
from downslope.terrain.functions.own import around, own
from downslope.terrain.hvp import length
from downslope.terrain.methods.method import Method
from downslope.terrain.paths.rate_search import searched
from downslope.terrain.paths.walk import Status, Walked, walked
from downslope.terrain.slices.slice import Floats, Slice, Trail
from downslope.terrain.slices.surface import surface

AT = 1e-3
"""Distance within which a path has ended at a point."""


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
            goes down for ever and has left the domain, "failed" where the method cannot go on, else "going
            on".
        nearest: The saddle or maximum it ended at, where the function lists it; else the minimum nearest to
            the end; None where there is none.
        distance: To it.
        kind: Of the critical point it ended at, where that is not listed: "minimum", "maximum" or "saddle".
        why: It failed.
        known: Whether the function's critical points are; not of a function of one's own.
        interrupted: Whether Ctrl-C ended it.
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
    why: str = ""
    known: bool = True
    interrupted: bool = False

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
        if self.status == "failed":
            return f"failed at step {self.steps + 1}: see its note"
        if self.status == "diverged":
            return "diverged"
        if self.status == "left":
            return "downhill, out of the domain"
        if self.kind:
            return f"another {self.kind}, not listed" if self.known else f"a {self.kind}"
        if self.nearest is None:
            return "no minimum to reach" if self.known else "on its way down"
        if self.nearest.kind != "minimum":
            return f"the {self.nearest.kind} at {place(self.nearest.at)}"
        kind = "global minimum" if self.nearest.is_global else "local minimum"
        return kind if self.distance < AT else f"on the way, {numeral(self.distance)} from a {kind}"


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
        interrupted: Whether Ctrl-C ended it; the ways are as far as they went.
    """

    function: Function
    start: tuple[float, ...]
    ways: tuple[Way, ...]
    surface: Slice | None = field(repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def drawn(self) -> tuple[Way, ...]:
        """The ways that can be seen: all but those that failed at the start."""
        return tuple(way for way in self.ways if way.steps or way.status != "failed")

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
        """Write it, as `downslope.terrain.slices.slice.Slice.save` does."""
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
    function: str | Function | Callable[[Tensor], Tensor],
    optimizers: str | Sequence[str] | Mapping[str, Mapping[str, Any] | float] = ("gd", "momentum", "adam"),
    *,
    start: Sequence[float] | None = None,
    steps: int = 1000,
    lr: float | Mapping[str, float] | None = None,
    points: int = 201,
    domain: Sequence[Sequence[float]] | None = None,
) -> Paths:
    """Several optimizers from one start over a function, in float64, with exact gradients.

    A learning rate that is not given is found by trying (`downslope.terrain.paths.rate_search`): the best of
    11 rates from 1e-4 to 10, without a spike where one comes near; of a function whose minima are not known,
    a rate whose first step is a fiftieth of the domain. Each is told. A method that cannot go on is told in
    its row, and the others are drawn.

    Args:
        function: A function, or its name with settings: "bowl(condition=100)"; or any function of points of
            shape (..., dimension), giving (...), which needs `start`.
        optimizers: Names as a recipe has them, those of `downslope.terrain.methods` among them; or a mapping
            to settings (``{"momentum": {"momentum": 0.95}}``) or to a learning rate.
        start: Coordinates; left out, the function's usual start.
        steps: Of each at most, at least 1.
        lr: One learning rate for all, or by name.
        points: Of each axis of the surface.
        domain: Lower and upper end of each coordinate that is drawn; left out, the function's, and around the
            paths of a function of one's own.

    Returns:
        The ways and the ground below them.

    Raises:
        InputError: a start of another dimension, no optimizer, steps below 1.
        UnknownNameError: a function or an optimizer that no table holds.
        RecipeError: settings that an optimizer refuses.
        ObjectiveError: a function of one's own that does not give a value for each point.
        DownslopeError: of the first method, where every one fails.
    """
    made, began = own(function, start, domain), time.monotonic()
    begun = made.checked(made.start if start is None else start)
    if not isinstance(steps, int) or steps < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"steps={steps!r}: must be a whole number, at least 1")
    notes: list[str] = []
    asked = _rated(optimizers, lr)
    results: list[tuple[Way, Exception | None]] = []
    for name, given in asked:
        try:
            results.append(_way(made, name, given, begun, steps, notes))
        except KeyboardInterrupt:
            if not results:
                raise
            break
        if results[-1][0].interrupted:
            break
    interrupted = len(results) < len(asked) or results[-1][0].interrupted
    if interrupted:
        left = ", ".join(name for name, _ in asked[len(results) :])
        notes.append(f"ended by Ctrl-C{left and f', before {left} began'}: what is told is until then")
    failures = [error for _, error in results if error is not None]
    if len(failures) == len(results):
        raise failures[0]
    ways = tuple(way for way, _ in results)
    kept = [way.at for way in ways if way.status not in ("left", "diverged", "failed")]
    if domain is None and not made.known:
        made = replace(made, domain=around(kept or [ways[0].at[:1]]))
    found = Paths(
        function=made, start=begun, ways=ways, surface=None, notes=tuple(notes), interrupted=interrupted
    )
    ground = None
    if made.dimension <= 2:
        trails = tuple(Trail(way.label, way.at, way.values, way.ended) for way in found.drawn)
        ground = surface(made, points=points, around=kept if domain is None else ()).with_trails(trails)
    return replace(found, surface=ground, seconds=time.monotonic() - began)


def _rated(optimizers: Any, lr: float | Mapping[str, float] | None) -> list[tuple[str, dict[str, Any]]]:
    """Name and settings of each, with the learning rate that was given."""
    if not optimizers:
        raise InputError("optimizers: none; name some, such as ['gd', 'momentum', 'adam']")
    rates = dict(lr) if isinstance(lr, Mapping) else {}
    asked = [(names.canonical("optimizer", name), dict(given)) for name, given in _asked(optimizers)]
    for key in rates:
        if key not in {name for name, _ in asked}:
            raise InputError(
                f"lr for {key!r}, which does not run{names.did_you_mean(key, [n for n, _ in asked])}"
            )
    for name, given in asked:
        fixed = rates.get(name, lr if isinstance(lr, (int, float)) else None)
        if fixed is not None:
            given.setdefault("lr", fixed)
    return asked


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
) -> tuple[Way, Exception | None]:
    """One optimizer's way, whose rate is searched for where it needs one; and why it failed, if it did."""
    defaults = optimizer_defaults(name)
    for key in given:
        if key not in defaults:
            raise RecipeError(f"{key!r} is no setting of {name}{names.did_you_mean(key, defaults)}")
    line_search = issubclass(names.resolve("optimizer", name), Method)
    tried = "lr" not in given and "lr" in defaults and not line_search
    if tried:
        given["lr"], how = searched(function, name, given, start, steps)
        notes.append(f"{name}: lr {numeral(given['lr'])}, {how}")
    elif "lr" not in given and "lr" in defaults:
        given = {"lr": defaults["lr"], **given}
    walk = walked(function, name, given, start, steps)
    why = "" if walk.error is None else str(walk.error).splitlines()[0]
    if walk.error is not None:
        notes.append(f"{name}: failed at step {len(walk.at)}: {why}")
    near, kind = _ended(function, walk)
    return Way(
        optimizer=name, settings=given, searched=tried, at=walk.at, values=walk.values, status=walk.status,
        evaluations=walk.evaluations, nearest=None if near is None else near[0],
        distance=math.nan if near is None else near[1], kind=kind, why=why, known=function.known,
        interrupted=walk.interrupted,
    ), walk.error  # fmt: skip


def _ended(function: Function, walk: Walked) -> tuple[tuple[CriticalPoint, float] | None, str]:
    """The critical point at the end, or the nearest minimum; and the kind of one that is not listed."""
    end = walk.at[-1]
    if not np.isfinite(end).all():
        return None, ""
    listed = [(each, math.dist(each.at, end)) for each in function.critical]
    here = min((each for each in listed if each[1] < AT), key=lambda each: each[1], default=None)
    near = here or function.nearest(end.tolist())
    looked = walk.status in ("arrived", "stuck") and here is None and not function.kinks
    return near, _unlisted(function, end) if looked else ""


def _unlisted(function: Function, end: Floats) -> str:
    """What kind of critical point the end is, if it is one."""
    at = torch.from_numpy(end)
    linalg: Any = torch.linalg
    curved: Tensor = linalg.eigvalsh(function.hessian(at))
    size = float(curved.abs().max())
    if length(function.gradient(at)) > 1e-4 * max(size, 1e-4) or size < 1e-6:
        return ""
    eigenvalues: list[float] = curved.tolist()
    signs = {each > 0 for each in eigenvalues if abs(each) > 1e-6 * size}
    return "saddle" if len(signs) > 1 else "minimum" if True in signs else "maximum"
