"""The verb `survey`: what kind of ground a model stands on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.asked import check_asked
from downslope.core.errors import DownslopeError, InputError, ObjectiveError
from downslope.core.numerals import many
from downslope.core.problem import Problem
from downslope.terrain.convexity.convexity import Convexity, of_structure, witnessed
from downslope.terrain.convexity.structure import structure
from downslope.terrain.functions.point import Point
from downslope.terrain.ground import ModelGround
from downslope.terrain.ground.point import EXAMPLES
from downslope.terrain.ground.stand import BOUND, Standing, not_finite, stand, wide
from downslope.terrain.hvp import length
from downslope.terrain.layerwise import PROBES, Layers, layerwise, of_matrix
from downslope.terrain.operators import Operator
from downslope.terrain.spectrum import Density
from downslope.terrain.spectrum import density as density_of
from downslope.terrain.surveys import telling
from downslope.terrain.surveys.ends import DENSE, Ends, ends, lost, unknown
from downslope.terrain.surveys.gain import STEPS, gain, won
from downslope.terrain.surveys.jitter import Jitter, jitter
from downslope.terrain.surveys.judging import judged_at
from downslope.terrain.surveys.kind import REACH, Judged, View, mirrored
from downslope.terrain.surveys.proved import agreeing
from downslope.terrain.surveys.rates import adam_rate, plain_rates, unlimited
from downslope.terrain.surveys.reach import reach_of
from downslope.terrain.surveys.sampled import at_kink, on_kink
from downslope.terrain.surveys.scale import scale_of
from downslope.terrain.surveys.terrain import Escape, Terrain, turned
from downslope.terrain.surveys.treads import standing
from downslope.terrain.surveys.ways import by_curvature, by_samples, known_place

T = TypeVar("T")

PRODUCTS = 60
"""Products for the ends of the spectrum at most."""

SOLVED = 200
"""Weights up to which it is computed how many minima a convex problem has."""

PATIENCE = 2.0
"""Seconds after which one wants to hear what it is at."""

VANISHED = 1e-6
"""Size of a gradient's entries below which not it but Adam's eps decides the step."""

PRICE = 1.8
"""Gradients that a product costs, roughly."""


def survey(
    problem: Problem,
    model: Standing = None,
    *,
    examples: int | Literal["all"] = EXAMPLES,
    eigenvalues: int = 3,
    tol: float = 1e-3,
    dtype: torch.dtype | str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    density: bool = False,
    progress: bool = True,
) -> Terrain:
    """The kind of point that a model stands on, and the curvature around it.

    A critical point (the slope wins less than a thousandth of the loss's scale within a tenth of the weights'
    size) is a minimum, a maximum or a saddle by the signs of the eigenvalues of the Hessian beyond their
    errors; ground where slope and curvature change next to nothing is a plateau; the rest is a slope
    (`downslope.terrain.surveys.kind`). Up to 300 parameters the whole Hessian is taken apart, beyond that
    both ends of its spectrum are found by Lanczos' method. The model is left as it is.

    Args:
        problem: Model, objective and training data.
        model: Where to stand: a module, a Run (its last model), a state dict or its path; None for the start.
        examples: Training examples that the loss is taken over, a fixed draw of them, or "all".
        eigenvalues: How many of the largest eigenvalues, at least 1.
        tol: Error at which an eigenvalue counts as found, as a share of it, float in (0, 1).
        dtype: To measure in, or its name; the model's own if left out, float32 for half precision, float64
            for a test function, and where float32 leaves the sign of an eigenvalue of a small model open.
        seed: Of the start, and of the directions drawn at random.
        seconds: Time it may take, roughly; None sets no limit.
        density: Whether to estimate how all eigenvalues are distributed too; about 800 products.
        progress: Whether the price and the stages are told on standard error.

    Returns:
        The terrain; what was frozen, cut short or not measured is in its notes.

    Raises:
        InputError: an argument outside its domain; no problem or no model.
        ModelError: weights that are not finite, or a model of another problem.
        ObjectiveError: a loss that is not finite, or without a gradient.

    Memory: one copy of the model, and a vector of its parameters for each product (60).

    Source: Nocedal and Wright 2006, "Numerical optimization", theorems 2.3 and 2.4; Dauphin et al. 2014.
    """
    check_asked(problem, None)
    _check(eigenvalues, tol, seconds)
    began = time.monotonic()
    given, notes = stand(problem, model, seed)
    working = wide(given, dtype, notes)
    ground, loss = standing(problem, given, examples=examples, dtype=working, seed=seed, bound=True)
    ground.notes[:0] = notes
    notes = telling.of_loss(loss)
    if problem.constraint is not None:
        notes.append("the constraint is left out: this is the ground of the loss, on both sides of its edge")
    until = math.inf if seconds is None else began + seconds
    found = _Survey(
        problem, ground, eigenvalues, tol, seed, until, progress, began, notes, density, examples
    ).terrain()
    if not found.flat or found.kind in ("plateau", "slope") or ground.where().dtype != torch.float32:
        return found
    if not float(found.residuals.max()) > 0:  # zero by its graph, and not within rounding
        return found
    told = f"float32 does not tell the sign of {many(found.flat, 'eigenvalue')}"
    if dtype is None and found.complete and not found.interrupted and seconds is None:
        with suppress(DownslopeError, RuntimeError, TypeError):  # a model may be bound to float32
            again = survey(
                problem, given, examples=examples, eigenvalues=eigenvalues, tol=tol, dtype=torch.float64,
                seed=seed, seconds=None, density=density, progress=False,
            )  # fmt: skip
            if any(each.startswith(BOUND) for each in again.notes):
                return replace(again, notes=tuple(dict.fromkeys([told, *again.notes])))
            notes = [f"{told}, so all was measured again in float64"]
            return replace(again, notes=tuple(dict.fromkeys([*notes, *again.notes])))
    return replace(found, notes=(*found.notes, f"{told}: dtype=torch.float64 (--dtype float64) may"))


def _check(eigenvalues: object, tol: object, seconds: object) -> None:
    if isinstance(eigenvalues, bool) or not isinstance(eigenvalues, int) or eigenvalues < 1:
        raise InputError(f"eigenvalues={eigenvalues!r}: must be a whole number, at least 1")
    if not isinstance(tol, (int, float)) or not 0 < tol < 1:
        raise InputError(f"tol={tol!r}: must lie in (0, 1), it is an error as a share of its eigenvalue")
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise InputError(f"seconds={seconds!r}: must be above 0, or None for no limit")


@dataclass
class _Survey:
    """A survey under way: what was asked for, and what has come of it."""

    problem: Problem
    ground: ModelGround
    top: int
    tol: float
    seed: int
    until: float
    shown: bool
    began: float
    notes: list[str]
    wants_density: bool = False
    asked: int | Literal["all"] = EXAMPLES
    interrupted: bool = False
    products: int = 0
    examples: int = 0
    left_out: list[str] = field(default_factory=list[str])

    def terrain(self) -> Terrain:
        """Everything in order; what follows the kind is left out where Ctrl-C or the time cut it short."""
        started = time.monotonic()
        loss, gradient = self.ground.slope()
        if not math.isfinite(loss):  # of a later piece
            raise not_finite(loss)
        steps = self._priced(time.monotonic() - started)
        self.examples = self._examples()
        scattered = jitter(self.ground, self.examples, loss) if bool(gradient.isfinite().all()) else ""
        if isinstance(scattered, str) and scattered and not isinstance(self.ground.model, Point):
            self.notes.append(scattered)
        scatter = None if isinstance(scattered, str) else scattered
        operator = self.ground.hessian(steps)
        try:
            found = self._ends(operator, gradient, steps)
            self.products += found.products
            judged, view, escape = self._judged(loss, gradient, operator, found, scatter)
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"interrupted before the kind was known: loss {loss:.6g}, slope {length(gradient):.4g}"
            )
            raise
        layers, rates, spread, curved = None, dict[str, float](), None, not math.isnan(view.high)
        if curved:
            layers = self._stage("layers", lambda: self._layers(operator, gradient, found))
            kink = judged.kind == "minimum" and (view.kink or (judged.degenerate and on_kink(self.ground)))
            if said := unlimited(view.high, view.high_error, kink=kink):
                self.notes.append(said)
            else:
                rates = plain_rates(view.high)
                rates |= self._stage("Adam's rate", lambda: self._adam(operator, scatter)) or {}
        if self.wants_density and curved:
            spread = self._stage("density", lambda: self._density(operator))
        convex = self._stage("convexity", lambda: self._convexity(escape))
        judged, view, found, said = agreeing(judged, view, found, convex)
        if said:
            self.notes.append(said)
        if said or judged.kind in ("minimum", "plateau"):
            escape = escape if convex is None or not convex.convex else None
        self.notes += telling.of_view(view, judged, found, operator.exact)
        self.notes += telling.of_cuts(self.left_out, interrupted=self.interrupted)
        if self.problem.maximize:  # so far of the mirror image, which is gone down on
            judged, view = mirrored(judged, view)
        made = self._made(judged, view, found, loss, gradient)
        made |= {
            "escape": escape, "layers": () if layers is None else layers.layers, "stable_rates": rates,
            "trace": math.nan if layers is None else layers.trace, "convexity": convex, "density": spread,
            "known": known_place(self.ground),
            "trace_error": math.nan if layers is None else layers.trace_error,
            "noise_scale": None if scatter is None else scatter.noise, "products": self.products,
            "seconds": time.monotonic() - self.began, "interrupted": self.interrupted,
            "notes": tuple(dict.fromkeys((*self.ground.notes, *self.notes))),
        }  # fmt: skip
        terrain = Terrain(**made)
        return turned(terrain) if self.problem.maximize else terrain

    def _ends(self, operator: Operator, gradient: Tensor, steps: int) -> Ends:
        try:
            return ends(operator, gradient, top=self.top, tol=self.tol, steps=steps, seed=self.seed)
        except ObjectiveError as error:
            if not lost(error):
                raise
            narrow = gradient.dtype != torch.float64 and not on_kink(self.ground)
            self.notes.append(telling.of_lost(narrow=narrow))
            return unknown(gradient)

    def _judged(
        self, loss: float, gradient: Tensor, operator: Operator, found: Ends, scatter: Jitter | None
    ) -> tuple[Judged, View, Escape | None]:
        """The kind, what it was told from, and the way down."""
        if bool(found.values.isnan().any()):
            scale = scale_of(self.problem, self.ground, loss, self.seed)
            view = View(
                slope=0.0, high=math.nan, low=math.nan, reach=self._reach(), scale=scale,
                rounding=16 * torch.finfo(gradient.dtype).eps * abs(loss), kink=True,
            )  # fmt: skip
            judged, view, way = at_kink(
                self.ground, Judged("plateau", False, True, 0.0), view, None, loss, self.seed
            )
            return judged, view, None if way is None else by_samples(self.ground, way)
        view = self._view(loss, gradient, operator, found, scatter)
        escape = self._stage("way down", lambda: by_curvature(self.ground, found, view, loss))
        view = view._replace(drop=None if escape is None else escape.fall)
        judged, view, way = judged_at(
            self.ground, operator, found, view, gradient, loss, seed=self.seed
        )  # fmt: skip
        if way is not None and (escape is None or judged.kind == "slope"):
            bend = float(way.direction.double() @ operator.product(way.direction.to(gradient)).double())
            escape = by_samples(self.ground, way, bend, float(found.errors.max()))
        return judged, view, escape

    # -- time and interruption ------------------------------------------------------------------------------

    def _priced(self, each: float) -> int:
        """Products that fit into the time; the price is told before they are paid."""
        n = self.ground.size
        wanted = n if n <= DENSE else PRODUCTS
        total = wanted + (0 if n <= DENSE else STEPS + PROBES + 16) + 800 * self.wants_density
        price = PRICE * each * total
        self._say(f"{n:,} parameters, about {total} products with the Hessian, {max(price, 0.1):.1f} s")
        left = self.until - time.monotonic()
        if price <= left or n <= DENSE:
            return wanted
        fits = max(min(int(left / (PRICE * each)) - STEPS, wanted), 4)
        if fits < wanted:
            self.notes.append(f"the time allows for {fits} products of {wanted}, so residuals are larger")
        return fits

    def _say(self, text: str, *, slow: bool = False) -> None:
        """A line on standard error; a stage is told of only where stages take long."""
        if self.shown and (not slow or time.monotonic() - self.began > PATIENCE):
            sys.stderr.write(f"survey  {text}\n")
            sys.stderr.flush()

    def _stage(self, name: str, act: Callable[[], T]) -> T | None:
        """What `act` gives; None after Ctrl-C, and once the time is up."""
        if self.interrupted or time.monotonic() > self.until:
            self.left_out.append(name)
            return None
        self._say(name, slow=True)
        try:
            return act()
        except KeyboardInterrupt:
            self.interrupted = True
            self.left_out.append(name)
            return None

    # -- what is measured -----------------------------------------------------------------------------------

    def _view(
        self, loss: float, gradient: Tensor, operator: Operator, found: Ends, scatter: Jitter | None
    ) -> View:
        """The point in numbers."""
        reach, norm = self._reach(), length(gradient.double())
        if found.complete:
            slope = won(found.values, found.vectors.double().cpu() @ gradient.double().cpu(), reach)
        else:
            slope = gain(operator, gradient, reach)
        scale = scale_of(self.problem, self.ground, loss, self.seed)
        return View(
            slope=slope, high=float(found.values[0]), low=float(found.values[-1]), reach=reach,
            scale=scale, high_error=float(found.errors[0]), low_error=float(found.errors[-1]),
            exact=norm <= self._rounding(gradient, found, loss, scatter), noise=self._noisy(norm, scatter),
            rounding=16 * torch.finfo(gradient.dtype).eps * abs(loss),
        )  # fmt: skip

    def _reach(self) -> float:
        """A tenth of the weights' size; on a test function of its domain's half width."""
        if isinstance(self.ground.model, Point):
            return REACH * min((high - low) / 2 for low, high in self.ground.model.function.domain)
        return reach_of(self.ground)

    def _rounding(self, gradient: Tensor, found: Ends, loss: float, scatter: Jitter | None) -> float:
        """The rounding of the gradient: what that of the weights makes of the curvature, and of its terms."""
        size, eps = length(self.ground.where().double()), torch.finfo(gradient.dtype).eps
        terms = abs(loss) / max(size, 1e-300)
        if scatter is not None:
            terms = math.sqrt(max(scatter.noise.trace, 0.0))
        return 8 * eps * (float(found.values.abs().max()) * size + (terms if size else 0.0))

    def _noisy(self, norm: float, scatter: Jitter | None) -> bool:
        """Whether nothing is left of the slope beyond what the choice of the examples makes of it.

        ``|g|^2`` less its expected noise estimates that of the slope over all examples; it counts as nothing
        within two standard errors. Examples that are all there are make no noise.
        """
        there = self.problem.train_source.size
        left = 1.0 - self.examples / there if there else 1.0
        whole = self.asked == "all" or self.examples < self.asked  # a stream that ended before
        if scatter is None or whole or left <= 0:
            return False
        noise = scatter.noise
        true = norm**2 - left * noise.trace / self.examples
        return true <= 2.0 * left * noise.squared_norm_error

    def _layers(self, operator: Operator, gradient: Tensor, found: Ends) -> Layers:
        if found.complete:
            return of_matrix(self.ground, found)
        made = layerwise(self.ground, operator, gradient, seed=self.seed, until=self.until)
        self.products += made.products
        return made

    def _adam(self, operator: Operator, scatter: Jitter | None) -> dict[str, float]:
        if scatter is None or float(scatter.gradients.square().mean()) < VANISHED**2:
            return {}
        rate, products = adam_rate(operator, scatter.gradients, seed=self.seed)
        self.products += products
        self.notes.append(
            f"Adam's rate is that of the second moment that batches of {scatter.size} would leave here"
        )
        return {"adam": rate} if math.isfinite(rate) else {}

    def _density(self, operator: Operator) -> Density:
        made = density_of(operator, seed=self.seed)
        self.products += made.products
        return made

    def _convexity(self, escape: Escape | None) -> Convexity:
        """What the structure proves, and what the curvature here refutes."""
        seen = None if escape is None else witnessed(
            self.ground, escape.flat, escape.profile, escape.curvature, escape.error
        )  # fmt: skip
        model = self.ground.model
        return of_structure(structure(self.problem, model), self.problem, model, solve=SOLVED, seen=seen)

    def _examples(self) -> int:
        return sum(batches.length(piece.batch) for piece in self.ground.pieces)

    def _made(
        self, judged: Judged, view: View, found: Ends, loss: float, gradient: Tensor
    ) -> dict[str, Any]:  # fmt: skip
        values, errors = found.values, found.errors
        least = int(values.abs().argmin())
        small, error = float(values[least].abs()), float(errors[least])
        known = found.complete or found.settled
        bound = math.inf if known else float(values.abs().max()) / max(small + error, 1e-300)
        return {
            "kind": judged.kind, "why": telling.why(judged, view), "strict": judged.strict,
            "degenerate": judged.degenerate or (judged.kind in ("minimum", "maximum") and not judged.strict),
            "loss": loss, "gradient_norm": length(gradient.double()),
            "eigenvalues": values, "residuals": errors, "complete": found.complete,
            "flat": int((values.abs() <= errors).sum()) if known else 0,
            "condition": float(values.abs().max()) / small if small > error else bound,
            "sharpness": float(values[0]), "index": int((values < -errors).sum()),
            "slope_gain": view.slope, "reach": view.reach, "scale": view.scale, "size": self.ground.size,
            "examples": self.examples,
        }  # fmt: skip
