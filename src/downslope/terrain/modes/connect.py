"""The verb `connect`: how high the ground is between two models, straight and on a way around.

Frankle, Dziugaite, Roy and Carbin 2020, Linear mode connectivity and the lottery ticket hypothesis (the
barrier); Garipov, Izmailov, Podoprikhin, Vetrov and Wilson 2018, Loss surfaces, mode connectivity, and fast
ensembling of DNNs (curves); Ainsworth et al. 2023, Git Re-Basin (units in the same order).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches, names
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.terrain.ground import ModelGround, Piece
from downslope.terrain.ground.stand import Standing, stand
from downslope.terrain.hvp import length
from downslope.terrain.modes.rebasin import aligned
from downslope.terrain.slices.landscape import BatchNorm, flat_weights, ground_around
from downslope.terrain.slices.slice import Floats

GROUPS = 16
"""Parts of the examples whose losses tell the standard error."""

Curve = Literal["bezier", "chain", "none"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Between:
    """The loss on one way from a model to another.

    Attributes:
        name: "straight", "straight, units aligned", "curve".
        at: Shares of the way, ascending from 0 to 1.
        losses: There.
        errors: Standard errors over the examples.
        barrier: The largest height above the straight line between the losses at the ends, at least 0.
        barrier_error: Its standard error over the examples, which are the same at all places.
        length: Of the way, in the weights.
    """

    name: str
    at: Floats = field(repr=False)
    losses: Floats = field(repr=False)
    errors: Floats = field(repr=False)
    barrier: float
    barrier_error: float
    length: float

    @property
    def above(self) -> float:
        """The mean height above the straight line between the losses at the ends."""
        return float((self.losses - np.interp(self.at, [0, 1], self.losses[[0, -1]])).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Connection:
    """Ways between two models.

    Attributes:
        ways: The straight one first.
        bend: Weights in the middle of the curve, flat; None without one.
        notes: What is to be known.
        seconds: It took.
    """

    ways: tuple[Between, ...]
    bend: Tensor | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def barrier(self) -> float:
        """Of the straight way."""
        return self.ways[0].barrier

    @property
    def told(self) -> str:
        """The barriers in words."""
        each = (f"{w.name}: barrier {numeral(w.barrier)} ± {numeral(w.barrier_error, 2)}" for w in self.ways)
        return "; ".join(each) + "."

    def __getitem__(self, name: str) -> Between:
        return next(way for way in self.ways if way.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        ways = [{**way.__dict__} for way in self.ways]
        return plain({"ways": ways, "notes": list(self.notes), "seconds": self.seconds})

    def plot(self, kind: str = "contour") -> Any:
        """A plotly figure."""
        return names.load("downslope.reporting.notebook:plotly_figure")(self, kind)

    def save(self, path: str | Path, kind: str = "contour") -> Path:
        """Write it, as `downslope.terrain.slices.slice.Slice.save` does."""
        return names.load("downslope.reporting.notebook:save")(self, path, kind)

    def __repr__(self) -> str:
        return f"Connection({self.told})"


def connect(
    problem: Problem,
    first: Standing,
    second: Standing,
    *,
    points: int = 25,
    align: bool = True,
    curve: Curve = "bezier",
    steps: int = 300,
    lr: float = 0.01,
    batch_size: int = 128,
    batch_norm: BatchNorm = "recalibrated",
    examples: int | Literal["all"] = 4096,
    seed: int = 0,
    progress: bool = True,
) -> Connection:
    """The training loss between two models: straight, straight with units in the same order, and on a curve.

    The barrier of a way w from loss L(0) to L(1) is ``max_t L(w(t)) - (1 - t) L(0) - t L(1)`` (Frankle et al.
    2020), its standard error that of the same difference over 16 parts of the examples. The curve is a
    quadratic Bezier ``(1-t)^2 a + 2 t (1-t) c + t^2 b``, or a chain of two straight pieces over c, whose c is
    trained by Adam on the loss at t drawn evenly in [0, 1] (Garipov et al. 2018, eq. 5).

    Args:
        problem: Model, objective and training data.
        first: A module, a Run, weights or their file.
        second: Another of the same architecture.
        points: Places on each way, at least 3.
        align: Whether to bring the second model's hidden units into the order of the first's, where it is a
            plain chain of layers.
        curve: "bezier", "chain" or "none".
        steps: Of its training, at least 1.
        lr: Of its training, above 0.
        batch_size: Of its training.
        batch_norm: "recalibrated" with the statistics of the examples at each place, since an average of
            models has other activations than either; or "frozen" with the first model's.
        examples: Training examples that count, a fixed draw of them, or "all".
        seed: Of the training and of the matching.
        progress: Whether to show how far it is, on standard error.

    Returns:
        The ways, with their barriers; without the curve where its training diverged, which is told.

    Raises:
        InputError: models that are not alike, or an argument outside its domain.

    Memory: six copies of the weights.
    """
    check_asked(problem, None)
    _check(points, curve, steps, lr, batch_size)
    began = time.monotonic()
    given, ground, notes = ground_around(problem, first, examples, None, seed, batch_norm)
    a, b = ground.where(), flat_weights(problem, ground, second)
    if length(a - b) == 0:
        raise InputError("the two models have the same weights: there is no way between them to look at")
    work = _Work(ground, points, batch_size, seed)
    ways = [work.way("straight", a, lambda t: torch.lerp(a, b, t))]
    if align:
        found = aligned(given, stand(problem, second, seed)[0], seed=seed)
        if found is None:
            notes.append("units were not aligned: the model is no plain chain of layers")
        else:
            near = flat_weights(problem, ground, found[0])
            notes.append(
                f"{found[1]} hidden units of the second model change places; its distance from the first "
                f"goes from {numeral(length(a - b))} to {numeral(length(a - near))}"
            )
            ways.append(work.way("straight, units aligned", a, lambda t: torch.lerp(a, near, t)))
    bend = None
    if curve != "none":
        bend, taken = work.bend(a, b, curve, steps, lr, progress)
        if taken < steps:
            notes.append(f"the training of the curve was ended by Ctrl-C after {taken} of {steps} steps")
        middle = bend
        bent = work.way(f"{curve} curve", a, lambda t: _on(curve, a, middle, b, t))
        if (worse := _worse(bent, ways[0], lr)) is None:
            ways.append(bent)
        else:
            bend = None
            notes.append(worse)
    ground.put(a)
    notes += dict.fromkeys(note for each in (*work.grounds, ground) for note in each.notes)
    return Connection(ways=tuple(ways), bend=bend, notes=tuple(notes), seconds=time.monotonic() - began)


def _worse(bent: Between, straight: Between, lr: float) -> str | None:
    """What to say of a curve, which begins as the straight line, that went up by its training."""
    allowed = 2 * max(straight.above, 0.0) + 3 * float(straight.errors.max())
    if np.isfinite(bent.losses).all() and not bent.above > allowed:
        return None
    return (
        f"the training of the curve diverged at lr={numeral(lr)}: the loss rises to "
        f"{numeral(bent.losses.max())} on it, and to {numeral(straight.losses.max())} on the straight line, "
        "which is kept; take a smaller lr"
    )


def _on(curve: Curve, a: Tensor, middle: Tensor, b: Tensor, t: float) -> Tensor:
    """The point of a curve at t."""
    if curve == "bezier":
        return (1 - t) ** 2 * a + 2 * t * (1 - t) * middle + t**2 * b
    return torch.lerp(a, middle, 2 * t) if t < 0.5 else torch.lerp(middle, b, 2 * t - 1)


class _Work:
    """Losses by parts of the examples, and the training of a curve."""

    def __init__(self, ground: ModelGround, points: int, batch_size: int, seed: int) -> None:
        self.ground, self.points, self.seed, self.batch_size = ground, points, seed, batch_size
        self.whole = batches.join([piece.batch for piece in ground.pieces])
        self.count = batches.length(self.whole)
        size = max(1, math.ceil(self.count / GROUPS))
        self.parts = [
            Piece(part, batches.length(part) / self.count) for part in batches.slices(self.whole, size)
        ]
        self.grounds = [
            ModelGround(ground.model, ground.objective, [Piece(part.batch, 1.0)], seed=seed)
            for part in self.parts
        ]

    def way(self, name: str, a: Tensor, at: Callable[[float], Tensor]) -> Between:
        """Losses along a way, and its barrier."""
        shares = np.linspace(0, 1, self.points)
        rows: list[list[float]] = []
        travelled, former = 0.0, a
        for share in shares:
            here = at(float(share))
            travelled += length(here - former)
            former = here
            self.ground.put(here)
            rows.append([each.loss() for each in self.grounds])
        losses: Floats = np.array(rows, dtype=np.float64)
        weights = np.array([part.weight for part in self.parts])
        mean = losses @ weights
        above: Any = losses - np.outer(1 - shares, losses[0]) - np.outer(shares, losses[-1])
        heights = above @ weights
        heights = np.where(np.isnan(heights), np.inf, heights)  # where the loss is no number, nothing passes
        top = int(heights.argmax())
        return Between(
            name=name, at=shares, losses=mean, errors=_error(losses), barrier=max(float(heights[top]), 0.0),
            barrier_error=float(_error(above[top : top + 1])[0]), length=travelled,
        )  # fmt: skip

    def bend(
        self, a: Tensor, b: Tensor, curve: Curve, steps: int, lr: float, progress: bool
    ) -> tuple[Tensor, int]:
        """The middle of a curve, trained from the middle of the straight way, and the steps it took."""
        middle = torch.nn.Parameter(torch.lerp(a, b, 0.5))
        optimizer: Any = names.resolve("optimizer", "adam")([middle], lr=lr)
        draw = np.random.default_rng(self.seed)
        order = torch.Generator().manual_seed(self.seed)
        shown: Any = names.load("downslope.training.progress:Progress")
        step = 0
        with shown("connect", steps, shown=progress, brief=True) as bar:
            try:
                for step in range(steps):
                    t = float(draw.uniform())
                    self.ground.put(_on(curve, a, middle.detach(), b, t))
                    loss, slope = _slope(self.ground, self._drawn(order))
                    if math.isfinite(loss):
                        share = 2 * t * (1 - t) if curve == "bezier" else min(2 * t, 2 - 2 * t)
                        middle.grad = share * slope
                        optimizer.step()
                    bar.update(step + 1, f"loss {numeral(loss)}")
            except KeyboardInterrupt:
                return middle.detach(), step
        return middle.detach(), steps

    def _drawn(self, order: torch.Generator) -> Any:
        index = torch.randperm(self.count, generator=order)[: self.batch_size]
        return batches.take(self.whole, index.to(self.ground.params[0].device))


def _slope(ground: ModelGround, batch: Any) -> tuple[float, Tensor]:
    """Loss and gradient on a batch of its own."""
    alone = ModelGround(ground.model, ground.objective, [Piece(batch, 1.0)])
    alone.chunk, alone.notes = ground.chunk, ground.notes
    found = alone.slope()
    ground.chunk = alone.chunk
    return found


def _error(rows: Floats) -> Floats:
    """Standard error of the mean over the columns of each row."""
    count = rows.shape[1]
    spread: Floats = rows.std(axis=1, ddof=1) if count > 1 else np.full(len(rows), np.nan)
    return spread / math.sqrt(count)


def _check(points: object, curve: object, steps: object, lr: Any, batch_size: object) -> None:
    if not isinstance(points, int) or points < 3:
        raise InputError(f"points={points!r}: must be a whole number of places, at least 3")
    if curve not in ("bezier", "chain", "none"):
        raise InputError(f"curve={curve!r}: must be 'bezier', 'chain' or 'none'")
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"steps={steps!r}: must be a whole number, at least 1")
    if not lr > 0:
        raise InputError(f"lr={lr!r}: must be above 0")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size={batch_size!r}: must be a whole number of examples, at least 1")
