"""The verb `landscape`: a loss or a metric over one or two directions through a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.core.problem import Problem
from downslope.core.stated import metric_of
from downslope.terrain.ground import ModelGround
from downslope.terrain.ground.point import EXAMPLES, ground_of
from downslope.terrain.ground.stand import Standing, running, stand
from downslope.terrain.hvp import length
from downslope.terrain.slices.bends import aims, eigen
from downslope.terrain.slices.directions import (
    NORMALISE,
    Direction,
    Normalise,
    given_direction,
    random_directions,
)
from downslope.terrain.slices.heights import Heights, Measure
from downslope.terrain.slices.principal import principal
from downslope.terrain.slices.slice import Axis, Floats, Mark, Slice, Trail, logarithmic
from downslope.terrain.slices.trail import Recorder
from downslope.terrain.slices.work import Work

BatchNorm = Literal["frozen", "recalibrated"]
KINDS = ("random", "eigen", "gradient", "pca")


def landscape(
    problem: Problem,
    model: Standing = None,
    *,
    to: Standing | Sequence[Standing] = None,
    directions: str | Sequence[Any] = "random",
    trajectory: Sequence[Any] | Recorder | Mapping[str, Any] | None = None,
    dimensions: int = 2,
    points: int = 51,
    span: float | tuple[float, float] | None = None,
    normalise: Normalise = "filter",
    layers: str | Sequence[str] = (),
    quantity: str | Callable[..., Any] = "loss",
    batch_norm: BatchNorm = "frozen",
    examples: int | Literal["all"] = EXAMPLES,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    exact: bool | None = None,
    progress: bool = True,
) -> Slice:
    """The loss around a model, over a line or a plane through it.

    ``f(a, b) = L(w + a d1 + b d2)``. With the usual random directions a coordinate of 1 moves each filter by
    its own length (`downslope.terrain.slices.directions`), so that slices of different models can be
    compared.

    Args:
        problem: Model, objective and training data.
        model: Through which the slice goes: a module, a Run, weights or their file; None for the start.
        to: Another model, for the straight line to it at coordinate 1; two, for the plane through all three.
        directions: "random"; "eigen", the eigenvectors of the Hessian's largest and smallest eigenvalue;
            "gradient", downhill, and a random one; "pca", the principal directions of `trajectory`; or one or
            two of "top", "bottom", "gradient", "random", flat tensors, or tensors by name.
        trajectory: Models, weights or flat vectors in the order of training, for "pca", or to be drawn on
            other directions; a `Recorder` holds one. Several by name share a plane, whose origin is the end
            of the first.
        dimensions: 1 or 2, where `directions` does not say.
        points: Of each axis, at least 3.
        span: Ends of the coordinates, or one number for both sides. Left out: 1 for random directions; of
            eigenvectors the move at which the curvature alone would add twice the loss; what holds the models
            or the trajectory, and a fifth on each side.
        normalise: Of random directions, as `downslope.terrain.slices.directions.random_directions` has it.
        layers: Names of modules that move alone; "conv1" moves conv1.weight.
        quantity: "loss"; "metric", the problem's own; or the name of a metric, or ``(output, target) ->
            float``.
        batch_norm: "frozen", with the model's running statistics, as in the paper; "recalibrated", with the
            statistics of the examples at every point.
        examples: Training examples that count, a fixed draw of them, or "all".
        dtype: To compute in; the model's own if left out.
        seed: Of the directions, and of the start.
        exact: True evaluates every point; False every sixth of an axis with splines between, or more until
            64 points held out, one in each of 8 x 8 blocks, agree to 1e-3 (root mean square, relative); None
            the first where it takes up to 20 seconds.
        progress: Whether to show how far it is, on standard error.

    Returns:
        The slice. Ctrl-C ends it with the points there are.

    Raises:
        InputError: an argument outside its domain, a model that does not fit.

    Memory: the weights twice, each direction once, and 256 MiB of copies where points go in batches.

    Source: Goodfellow, Vinyals and Saxe 2015 (lines between models); Li et al. 2018, Visualizing the loss
    landscape of neural nets (filters, section 4; trajectories, section 7); Yao et al. 2020, PyHessian
    (eigenvectors).
    """
    check_asked(problem, None)
    _check(points, dimensions, normalise, batch_norm, span)
    began = time.monotonic()
    given, ground, notes = ground_around(problem, model, examples, dtype, seed, batch_norm)
    measure, name, higher = _quantity(problem, quantity)
    if problem.maximize and measure is None:
        notes.append("the objective is maximised: shown is its negative, which is gone down on")
    others = [flat_weights(problem, ground, each) for each in _listed(to)]
    ways = {
        name: [flat_weights(problem, ground, each) for each in one]
        for name, one in _named(trajectory).items()
    }
    plan = _Plan(ground, seed, normalise, (layers,) if isinstance(layers, str) else tuple(layers), notes)
    chosen, ends, marks = plan.choose(directions, others, ways, dimensions)
    heights = Heights(plan.ground, [each.vector for each in chosen], measure)
    axes = tuple(
        Axis(each.name, _coordinates(points, span, end), length(each.vector))
        for each, end in zip(chosen, ends, strict=True)
    )
    drawn = Slice(
        title=problem.name or type(given).__name__, quantity=name, axes=axes,
        values=np.full((points,) * len(axes), np.nan), evaluated=np.zeros((points,) * len(axes), dtype=bool),
        higher=higher, origin=heights.origin, vectors=tuple(each.vector for each in chosen),
    )  # fmt: skip
    try:
        work = Work(drawn, heights, exact, progress)
        work.go()
        trails = tuple(_trail(name, drawn, heights, way, notes) for name, way in ways.items())
        placed = tuple(mark._replace(value=work.value_at(mark.at)) for mark in marks)
    finally:
        heights.close()
    return replace(
        drawn, accuracy=work.accuracy, marks=placed, trails=trails,
        notes=(*notes, *work.notes, *ground.notes),
        seconds=time.monotonic() - began, interrupted=work.interrupted,
        log=measure is None and logarithmic(drawn.values),
    )  # fmt: skip


def ground_around(
    problem: Problem, model: Standing, examples: int | Literal["all"], dtype: torch.dtype | None, seed: int,
    batch_norm: BatchNorm,
) -> tuple[nn.Module, ModelGround, list[str]]:  # fmt: skip
    """A model, the ground around it, and what is to be known of both; the loss may be anything.

    Raises:
        ModelError: the model does not fit the examples.
    """
    given, notes = stand(problem, model, seed)
    with running(given):
        ground = ground_of(problem, given, examples=examples, dtype=dtype, seed=seed)
    notes += ground.notes
    ground.notes.clear()
    if batch_norm == "recalibrated":
        notes += recalibrate(ground.model)
    return given, ground, notes


class _Plan:
    """From what was asked for to directions, the ends of their axes, and places with names."""

    def __init__(
        self, ground: ModelGround, seed: int, normalise: Normalise, layers: tuple[str, ...], notes: list[str]
    ) -> None:
        self.ground, self.seed, self.layers, self.notes = ground, seed, layers, notes
        self.normalise: Normalise = normalise

    def choose(
        self,
        directions: str | Sequence[Any],
        others: Sequence[Tensor],
        ways: Mapping[str, Sequence[Tensor]],
        dimensions: int,
    ) -> tuple[list[Direction], list[tuple[float, float]], list[Mark]]:
        """Directions, ends, marks."""
        here = Mark((0.0,) * dimensions, "here", math.nan)
        if others:
            return aims(self.ground, others)
        if isinstance(directions, str) and directions not in KINDS:
            raise InputError(
                f"directions={directions!r} are not known{names.did_you_mean(directions, KINDS)}"
            )
        if directions == "pca":
            found, ends, told_ = principal(self.ground, list(ways.values()), dimensions)
            self.notes.extend(told_)
            return found, ends, [here._replace(name="end", kind="end")]
        wanted = _spelt(directions, dimensions)
        here = Mark((0.0,) * len(wanted), "here", math.nan)
        found, ends = self._each(wanted)
        return found, ends, [here]

    def _each(self, wanted: Sequence[Any]) -> tuple[list[Direction], list[tuple[float, float]]]:
        random = random_directions(
            self.ground, sum(isinstance(each, str) and each == "random" for each in wanted) or 1,
            normalise=self.normalise, layers=self.layers, seed=self.seed, notes=self.notes,
        )  # fmt: skip
        bends = [each for each in wanted if isinstance(each, str) and each in ("top", "bottom")]
        bent = eigen(self.ground, bends, self.layers, self.seed, self.notes) if bends else {}
        found: list[Direction] = []
        ends: list[tuple[float, float]] = []
        for index, each in enumerate(wanted):
            reach = 1.0
            if not isinstance(each, str):
                direction = given_direction(self.ground, each, f"direction {index + 1}")
            elif each == "random":
                direction = random.pop(0)
            elif each == "gradient":
                direction = self._downhill()
            else:
                direction, reach = bent[each]
            found.append(direction)
            ends.append((-reach, reach))
        return found, ends

    def _downhill(self) -> Direction:
        """Down the slope, as long as the weights are."""
        loss, slope = self.ground.slope()
        size, whole = length(slope), length(self.ground.where())
        if not math.isfinite(loss) or not size > 0 or not math.isfinite(size):
            raise InputError(
                f"directions='gradient': the gradient has length {numeral(size)} here, no direction"
            )
        return Direction(slope * (-0.1 * (whole or 1.0) / size), "downhill, a tenth of the weights' length")


def _spelt(directions: str | Sequence[Any], dimensions: int) -> list[Any]:
    if isinstance(directions, str):
        both = {
            "random": ("random", "random"),
            "eigen": ("top", "bottom"),
            "gradient": ("gradient", "random"),
        }
        return list(both[directions][:dimensions])
    wanted = list(directions)
    if not 1 <= len(wanted) <= 2:
        raise InputError(f"directions: {len(wanted)} of them; a slice has one or two")
    for each in wanted:
        if isinstance(each, bool | int | float):
            raise InputError(
                f"direction {each!r}: must be 'top', 'bottom', 'gradient', 'random', a flat tensor, or "
                "tensors by name"
            )
        if isinstance(each, str) and each not in ("top", "bottom", "gradient", "random"):
            known = names.did_you_mean(each, ("top", "bottom", "gradient", "random"))
            raise InputError(f"direction {each!r} is not known{known}")
    return wanted


def recalibrate(model: nn.Module) -> list[str]:
    """Let batch norm take the statistics of the examples it is given, at every look; returns what to tell."""
    from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

    found = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    for each in found:
        each.running_mean = each.running_var = each.num_batches_tracked = None
        each.track_running_stats = False
    return ["batch norm takes the statistics of the examples at each point"] if found else []


def _quantity(problem: Problem, quantity: str | Callable[..., Any]) -> tuple[Measure | None, str, bool]:
    """What is measured, its name, and whether higher is better; None for the loss."""
    if quantity == "loss":
        return None, "loss", False
    metric: Any = problem.metric if quantity == "metric" else metric_of(quantity, problem.objective)
    if metric is None:
        raise InputError("quantity='metric': the problem has no metric; name one, such as 'accuracy'")
    own = quantity == "metric"
    up = problem.direction == "max" if own else getattr(metric, "goal", "max") == "max"
    return metric, str(getattr(metric, "__name__", "metric")), up


def flat_weights(problem: Problem, ground: ModelGround, given: Any) -> Tensor:
    """The weights of a model, as a flat vector like the ground's own.

    Raises:
        InputError: a model of other parameters.
    """
    if isinstance(given, Tensor):
        return given_direction(ground, given, "weights").vector
    module, _ = stand(problem, given, 0)
    own = dict(module.named_parameters())
    missing = [name for name in ground.names if name not in own]
    if missing or any(own[n].shape != p.shape for n, p in zip(ground.names, ground.params, strict=True)):
        said = f"{missing[0]} is missing" if missing else "shapes differ"
        raise InputError(f"the models are not alike, so there is no line between them: {said}")
    return given_direction(ground, [own[name] for name in ground.names], "weights").vector


def _named(trajectory: Any) -> dict[str, Any]:
    if trajectory is None:
        return {}
    return (
        dict(cast("Mapping[str, Any]", trajectory))
        if isinstance(trajectory, Mapping)
        else {"training": trajectory}
    )


def _trail(name: str, drawn: Slice, heights: Heights, way: Sequence[Tensor], notes: list[str]) -> Trail:
    """The way of a training, projected; the values are those of the plane below it."""
    placed = [drawn.project(each) for each in way]
    off = max(distance for _, distance in placed)
    moved = max(length((each - heights.origin).reshape(-1)) for each in way)
    notes.append(
        f"{name} is projected onto the picture and runs up to {numeral(off)} beside it; it moves by "
        f"{numeral(moved)}"
    )
    return Trail(name, np.array([at for at, _ in placed]), np.full(len(placed), np.nan))


def _coordinates(points: int, span: float | tuple[float, float] | None, end: tuple[float, float]) -> Floats:
    low, high = end if span is None else _both(span)
    found = np.linspace(low, high, points)
    found[np.abs(found) < 1e-12 * max(abs(low), abs(high))] = 0.0  # the middle is the model itself
    return found


def _both(span: float | tuple[float, float]) -> tuple[float, float]:
    return (float(span[0]), float(span[1])) if isinstance(span, tuple) else (-float(span), float(span))


def _listed(to: Any) -> list[Any]:
    if to is None:
        return []
    return list(cast("Sequence[Any]", to)) if isinstance(to, (list, tuple)) else [to]


def _check(points: object, dimensions: object, normalise: object, batch_norm: object, span: Any) -> None:
    if not isinstance(points, int) or points < 3:
        raise InputError(f"points={points!r}: must be a whole number of points of each axis, at least 3")
    if dimensions not in (1, 2):
        raise InputError(f"dimensions={dimensions!r}: must be 1, a line, or 2, a plane")
    if normalise not in NORMALISE:
        raise InputError(f"normalise={normalise!r}: must be one of {', '.join(NORMALISE)}")
    if batch_norm not in ("frozen", "recalibrated"):
        raise InputError(f"batch_norm={batch_norm!r}: must be 'frozen' or 'recalibrated'")
    if span is None:
        return
    ends = _both(span)
    if not all(math.isfinite(each) for each in ends) or not ends[0] < ends[1]:
        raise InputError(f"span={span!r}: must be a number above 0, or the two ends, the lower first")
