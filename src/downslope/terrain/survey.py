"""The verb `survey`: what kind of ground a model stands on."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.numerals import numeral
from downslope.core.problem import Problem
from downslope.optim.stability import stable_limit
from downslope.terrain.ends import DENSE, Ends, ends
from downslope.terrain.gain import STEPS, gain, won
from downslope.terrain.ground import ModelGround
from downslope.terrain.hvp import length, unflat
from downslope.terrain.kind import REACH, Judged, View, classify
from downslope.terrain.landscape import Escape, Terrain
from downslope.terrain.point import EXAMPLES, ground_of
from downslope.terrain.profile import Profile, around, profile
from downslope.terrain.stand import Point, check_ground, stand, wide


def survey(
    problem: Problem,
    model: Point = None,
    *,
    examples: int | Literal["all"] = EXAMPLES,
    eigenvalues: int = 3,
    tol: float = 1e-3,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: bool = True,
) -> Terrain:
    """The kind of point that a model stands on, and the curvature around it.

    A critical point (the slope wins less than a thousandth of the loss's scale within a tenth of the weights'
    size) is a minimum, a maximum or a saddle by the signs of the eigenvalues of the Hessian beyond their
    errors; ground where slope and curvature change next to nothing is a plateau; the rest is a slope
    (`downslope.terrain.kind`). Up to 300 parameters the whole Hessian is taken apart, beyond that both ends
    of its spectrum by Lanczos' method. The model is left as it is.

    Args:
        problem: Model, objective and training data.
        model: Where to stand: a module, a Run (its last model), a state dict or its path; None for the start.
        examples: Training examples that the loss is taken over, a fixed draw of them, or "all".
        eigenvalues: How many of the largest eigenvalues, at least 1.
        tol: Residual at which an eigenvalue counts as found, as a share of it, float in (0, 1).
        dtype: To measure in; the model's own if left out, float32 for half precision.
        seed: Of the start, and of the directions drawn at random.
        seconds: Time it may take, roughly; None sets no limit.
        progress: Whether the price and the stages are told on standard error.

    Returns:
        The terrain; what was frozen, cut short or not measured is in its notes.

    Raises:
        InputError: an argument outside its domain; no problem or no model.
        ModelError: weights that are not finite, or a model of another problem.
        ObjectiveError: a loss that is not finite, or without a gradient.

    Memory: one copy of the model, and a vector of its parameters for each product (40).

    Source: Nocedal and Wright 2006, theorems 2.3 and 2.4; Dauphin et al. 2014.
    """
    check_asked(problem, None)
    _check(eigenvalues, tol, seconds)
    began = time.monotonic()
    given, notes = stand(problem, model, seed)
    working = wide(given, dtype, notes)
    ground = ground_of(problem, given, examples=examples, dtype=working, seed=seed)
    check_ground(ground)
    budget = math.inf if seconds is None else began + seconds
    plan = _Plan(problem, ground, eigenvalues, tol, seed, budget, progress, began)
    return plan.terrain([*notes, *ground.notes])


def _check(eigenvalues: object, tol: object, seconds: object) -> None:
    if not isinstance(eigenvalues, int) or eigenvalues < 1:
        raise InputError(f"eigenvalues={eigenvalues!r}: must be a whole number, at least 1")
    if not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise InputError(f"tol={tol!r}: must lie in (0, 1), it is a residual as a share of its eigenvalue")
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise InputError(f"seconds={seconds!r}: must be above 0, or None for no limit")


@dataclass
class _Plan:
    """A survey under way."""

    problem: Problem
    ground: ModelGround
    top: int
    tol: float
    seed: int
    until: float
    shown: bool
    began: float

    def terrain(self, notes: list[str]) -> Terrain:
        ground = self.ground
        started = time.monotonic()
        loss, gradient = ground.slope()
        each = time.monotonic() - started
        steps = self._steps(each, notes)
        operator = ground.hessian()
        found = ends(operator, gradient, tol=self.tol, steps=steps, seed=self.seed)
        reach, scale = self._reach(), self._scale(loss)
        if found.complete:
            slope = won(found.values, found.vectors.double() @ gradient.double(), reach)
        else:
            slope = gain(operator, gradient, reach)
        view = self._view(loss, gradient, found, slope, reach, scale)
        judged = classify(view)
        samples: list[Profile] = []
        if judged.degenerate:
            samples = around(ground, reach, loss, seed=self.seed)
            view = view._replace(
                falls=max(each.fall for each in samples), rises=max(_rise(each, loss) for each in samples)
            )
            judged = classify(view)
        notes += _told(view, found, operator.exact)
        return self._made(judged, view, found, loss, gradient, notes)

    def _steps(self, each: float, notes: list[str]) -> int:
        """Products that fit into the time; the price is told before they are paid."""
        n, wanted = self.ground.size, 40
        if n <= DENSE:
            wanted = n
        total = wanted + STEPS
        price = 1.7 * each * total
        if self.shown:
            sys.stderr.write(f"survey of {n:,} parameters: about {total} products, {price:.1f} s\n")
            sys.stderr.flush()
        left = self.until - time.monotonic()
        if price <= left or n <= DENSE:
            return wanted
        fits = max(int(left / (1.7 * each)) - STEPS, 4)
        notes.append(f"the time allowed for {fits} products of {wanted}, so residuals are larger")
        return fits

    def _reach(self) -> float:
        """A tenth of the weights' size, or of that of rows of length 1 where they are smaller."""
        weights = length(self.ground.where().double())
        rows = sum(p.shape[0] for p in self.ground.params if p.ndim > 1)
        usual = math.sqrt(rows) or math.sqrt(self.ground.size)
        return REACH * max(weights, usual if rows or not weights else 0.0)

    def _scale(self, loss: float) -> float:
        """The loss's size, or its distance to that of a fresh start, whichever is larger."""
        fresh = self.problem.build(self.seed).eval().to(self.ground.params[0])
        kept = self.ground.where()
        try:
            own = dict(fresh.named_parameters())
            parts = [own[name].detach() for name in self.ground.names]
            self.ground.put(torch.cat([p.reshape(-1) for p in parts]))
            start = self.ground.loss()
        except (KeyError, RuntimeError):
            start = math.nan
        finally:
            self.ground.put(kept)
        way = abs(start - loss)
        return max(abs(loss), way if math.isfinite(way) else 0.0)

    def _view(
        self, loss: float, gradient: Tensor, found: Ends, slope: float, reach: float, scale: float
    ) -> View:
        eps = torch.finfo(gradient.dtype).eps
        bend = float(found.values.abs().max())
        size = length(self.ground.where().double())
        rounding = 8 * eps * (bend * size + abs(loss) / max(size, 1e-300) if size else bend)
        return View(
            slope=slope, high=float(found.values[0]), low=float(found.values[-1]), reach=reach, scale=scale,
            high_error=float(found.errors[0]), low_error=float(found.errors[-1]),
            exact=length(gradient) <= rounding, rounding=16 * eps * abs(loss),
        )  # fmt: skip

    def _made(
        self, judged: Judged, view: View, found: Ends, loss: float, gradient: Tensor, notes: list[str]
    ) -> Terrain:
        values, errors = found.values, found.errors
        escape = self._escape(found, view, loss)
        large, small = float(values.abs().max()), float(values.abs().min())
        least = int(values.abs().argmin())
        condition = large / small if small > float(errors[least]) else math.inf
        trace = float(values.sum()) if found.complete else math.nan
        return Terrain(
            kind=judged.kind, why=_why(judged, view), strict=judged.strict,
            degenerate=judged.degenerate, loss=loss, gradient_norm=length(gradient), eigenvalues=values,
            residuals=errors, complete=found.complete, condition=condition, sharpness=float(values[0]),
            trace=trace, trace_error=0.0, index=int((values < -errors).sum()), escape=escape, layers=(),
            noise_scale=None, stable_rates=_rates(float(values[0])), slope_gain=view.slope, reach=view.reach,
            scale=view.scale, size=self.ground.size,
            examples=batches.length(next(iter(self.ground.pieces)).batch), products=found.products,
            seconds=time.monotonic() - self.began, notes=tuple(dict.fromkeys(notes)),
        )  # fmt: skip

    def _escape(self, found: Ends, view: View, loss: float) -> Escape | None:
        if not view.low < -view.low_error:
            return None
        vector = found.vectors[-1]
        line = profile(self.ground, vector, view.reach, loss)
        if line.at < 0:
            vector = -vector
        parts = unflat(vector, self.ground.params)
        return Escape(
            curvature=view.low, error=view.low_error, flat=vector, profile=line,
            by_name=dict(zip(self.ground.names, parts, strict=True)),
        )  # fmt: skip


def _rise(line: Profile, loss: float) -> float:
    return max(0.0, *(each - loss for each in line.losses if math.isfinite(each)))


def _rates(sharpness: float) -> dict[str, float]:
    """The largest stable learning rate of plain methods: their limit at a rate of 1, over the sharpness."""
    if not sharpness > 0:
        return {}
    settings = {"gd": {}, "momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}
    limits = {name: stable_limit(name, {"lr": 1.0} | extra) for name, extra in settings.items()}
    return {name: limit / sharpness for name, limit in limits.items() if limit is not None}


def _told(view: View, found: Ends, exact: bool) -> list[str]:
    notes: list[str] = []
    if not found.settled and view.low >= -view.low_error:
        notes.append(
            f"undecided: no negative curvature found below {numeral(view.low - view.low_error)}; the "
            "smallest eigenvalue has not converged"
        )
    if not exact:
        notes.append("the model has no second derivative, so products are differences of gradients")
    return notes


def _why(judged: Judged, view: View) -> str:
    low, high = f"{numeral(view.low)} +- {numeral(view.low_error, 2)}", numeral(view.high)
    still = f"the slope could win {numeral(view.slope, 2)} of {numeral(view.scale)}"
    match judged.kind:
        case "slope":
            return f"{still} within a move of {numeral(view.reach)}: it leads on"
        case "plateau":
            return f"slope and curvature could change the loss by {numeral(judged.change, 2)} of its scale"
        case "saddle" if judged.degenerate:
            return "slope and curvature vanish, and the loss around is lower here and higher there"
        case "saddle":
            return f"{still}, and curvature goes from {low} to {high}"
        case "maximum":
            return f"{still}, and no curvature is positive (largest {high})"
        case "minimum" if judged.degenerate:
            return "slope and curvature vanish, and the loss is higher all around"
        case "minimum":
            kind = "every curvature is positive" if judged.strict else "no curvature is negative"
            return f"{still}, and {kind} beyond its error (smallest {low})"
