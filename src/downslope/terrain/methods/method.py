"""What a method that needs more than one gradient a step is, and how a training loop calls it."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.core.errors import ModelError, ObjectiveError
from downslope.optim import ops
from downslope.terrain.ground import Ground
from downslope.terrain.hvp import flat, length, unflat
from downslope.terrain.methods.closure import Looks
from downslope.terrain.methods.domains import check
from downslope.terrain.methods.escape import converged, saddle, sloped
from downslope.terrain.methods.line_search import ROUNDINGS, Line, Trial, backtracking, rounding
from downslope.terrain.methods.search import seek
from downslope.terrain.methods.step import LEVEL, PRECISE, Here, Step, subject, usual

__all__ = ["PRECISE", "Here", "Method", "Step"]

_log = logging.getLogger("downslope")

COUNTS = ("evaluations", "products", "failures")
"""What is remembered of all steps, whatever the parameters."""

BOTTOMLESS = 1e15
"""A loss as far below zero is one without a minimum."""

PATIENCE = 3
"""Steps in a row that neither lower the loss nor halve the gradient after which a method is at precision."""


class Method(torch.optim.Optimizer):
    """An optimizer that asks the ground for losses, slopes and curvature, as often as it needs.

    ``step(closure)`` works in any loop, as for `torch.optim.LBFGS`: the closure returns the loss, and need
    not call backward. ``step(ground)`` is what `downslope.fit` calls, and what methods need that look into
    the model (Gauss-Newton, natural gradient, K-FAC). A ground that is handed over again is the same
    function, so what is known of the point where the last step ended is not asked for again.

    Args:
        params: Parameters, or groups of them, which differ in `weight_decay` only: a step is solved for all.
        defaults: Settings, which become entries of the groups. ``weight_decay`` adds
            ``weight_decay / 2 |p|^2`` to the function that the method sees.

    Attributes:
        batch: "full" where every step has to see the whole training set, "large" where it needs a batch
            large enough that its curvature is that of the whole (the whole set unless told otherwise); None
            where any will do.
        source: Where the method is from.
        leaves: Whether it looks for the way out of a saddle by itself; of others, an end at one is told.
        last: What the last step did.

    Raises:
        RecipeError: a setting outside its domain.
        ModelError: groups that differ in more than their decay.
    """

    batch: ClassVar[str | None] = "large"
    source: ClassVar[str] = ""
    leaves: ClassVar[bool] = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, {key: check(key, value) for key, value in defaults.items()})
        self.last: Step | None = None
        self._here: tuple[Ground, Tensor, float, Tensor] | None = None
        self._begun: Tensor | None = None
        self._said: set[str] = set()

    # -- torch's contract ---------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group that differs from the others in its decay only.

        Raises:
            RecipeError: a setting outside its domain.
            ModelError: it differs in more.
        """
        for key, value in self.defaults.items():
            given = check(key, param_group.get(key, value))
            if key != "weight_decay" and self.param_groups and given != self.param_groups[0][key]:
                raise ModelError(
                    f"a group with {key}={given!r} beside one with {self.param_groups[0][key]!r}: the step "
                    f"of {type(self).__name__} is solved for all parameters at once, so that groups can "
                    "differ in weight_decay only"
                )
        ops.lean(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, as torch does."""
        ops.lean(torch.optim.Optimizer.zero_grad)(self, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Settings, and what is remembered, under the first parameter."""
        return ops.lean(torch.optim.Optimizer.state_dict)(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state of this class."""
        ops.lean(torch.optim.Optimizer.load_state_dict)(self, state_dict)
        self._here = None

    def step(self, closure: Callable[[], Tensor] | Ground | None = None) -> float:  # type: ignore[override]
        """One step; the loss before it. The gradient there stands in ``.grad`` after it.

        Args:
            closure: Computes the loss anew at each call, or the ground itself.

        Raises:
            ModelError: neither, or a method that needs the model was given a closure.
            ObjectiveError: the loss is no scalar.
        """
        if closure is None:
            raise ModelError(
                f"{type(self).__name__}.step() evaluates the loss several times: give it a closure that "
                "returns the loss, step(lambda: loss_fn(model(x), y))"
            )
        params = [p for group in self.param_groups for p in group["params"]]
        ground = closure if isinstance(closure, Ground) else Ground.of_closure(Looks(closure), params)
        ground.decay = self._decay(ground)
        if self.memory.get("size", ground.size) != ground.size:  # parameters were frozen, or thawed
            counted = {key: self.memory[key] for key in COUNTS if key in self.memory}
            self.memory.clear()
            self.memory.update(counted)
        formed = ground.formed
        with torch.enable_grad():
            made = self._ended(ground, self.move(ground))
        self.last = made._replace(evaluations=made.evaluations + ground.formed - formed)
        if self._begun is not None:  # a closure may clear or fill .grad at each look
            for p, part in zip(ground.params, unflat(self._begun, ground.params), strict=True):
                p.grad = part.clone()
        memory = self.memory
        memory["size"] = ground.size
        memory["evaluations"] = memory.get("evaluations", 0) + self.last.evaluations
        memory["products"] = memory.get("products", 0) + self.last.products
        memory["failures"] = 0 if self.last.accepted else memory.get("failures", 0) + 1
        memory["fixed"] = ground.fixed and self._here is not None
        if not isinstance(closure, Ground) or closure.told:
            self._tell(self.last)
        return self.last.loss

    def _tell(self, made: Step) -> None:
        """Say in a loop of one's own what a step met: once for each kind, as `fit` does by itself."""
        kind = subject(made.said)
        if made.said and not usual(made.said) and kind not in self._said:
            self._said.add(kind)
            _log.warning("%s: %s", type(self).__name__, made.said)

    # -- what a method is made of -------------------------------------------------------------------------

    @abstractmethod
    def move(self, ground: Ground) -> Step:
        """Step on `ground`, whose parameters are this method's."""

    @property
    def settings(self) -> dict[str, Any]:
        """Of the first group, which are those of all but for the decay."""
        return self.param_groups[0]

    @property
    def memory(self) -> dict[str, Any]:
        """What is remembered from step to step: numbers, tensors, lists of them."""
        return self.state[self.param_groups[0]["params"][0]]

    @property
    def steepest(self) -> float:
        """Length of the largest gradient so far."""
        return float(self.memory.get("steepest", 0.0))

    @property
    def averaged(self) -> float:
        """Batches that its curvature is a mean of, in [1, inf)."""
        return 1.0

    @property
    def evaluations(self) -> int:
        """Losses and gradients over all steps."""
        return int(self.memory.get("evaluations", 0))

    @property
    def products(self) -> int:
        """Products with curvature over all steps."""
        return int(self.memory.get("products", 0))

    @property
    def failures(self) -> int:
        """Steps in a row that found no point below."""
        return int(self.memory.get("failures", 0))

    def _ended(self, ground: Ground, made: Step) -> Step:
        """A step, with what its end is: a bottom, a saddle, or none at all."""
        if made.loss < -BOTTOMLESS:
            said = f"the loss falls without bound ({made.loss:.2g}): the objective seems to have no minimum"
            return made._replace(said=said, converged=False)
        if made.converged and made.said.endswith(PRECISE) and ground.fixed:
            gradient = self._begun if self._here is None else self._here[3]
            if gradient is not None and (short := sloped(ground, made, gradient, self.steepest)) is not None:
                return short
        if not self.leaves and converged(made) and (ground.fixed or made.said.endswith(LEVEL)):
            return saddle(ground, made, self.steepest)
        return made

    def begin(self, ground: Ground) -> Here:
        """Where the ground stands, with its gradient.

        Raises:
            ObjectiveError: the loss is not finite here.
        """
        x = ground.where()
        if self._here is not None and self._here[0] is ground and torch.equal(self._here[1], x):
            value, gradient, cost = self._here[2], self._here[3], 0
        else:
            (value, gradient), cost = ground.slope(), 1
            if self._here is None and self.memory.get("fixed"):  # a resumed run: it was counted before
                cost = 0
        if not bool(torch.isfinite(gradient).all()) or not math.isfinite(value):
            raise ObjectiveError(
                f"the loss is {value:g} where the step begins, or its gradient is not finite: "
                f"{type(self).__name__} needs a finite start; take a smaller initialisation, check the data"
            )
        self._begun = gradient
        return Here(x, value, gradient, cost)

    def keep(self, ground: Ground, x: Tensor, value: float, gradient: Tensor) -> None:
        """Remember what is known of the point where this step ends."""
        self._here = (ground, x, value, gradient)

    def along(
        self,
        ground: Ground,
        here: Here,
        direction: Tensor,
        *,
        products: int = 0,
        said: str = "",
        flat: bool = False,
    ) -> tuple[Step, float]:
        """One line search from ``t = lr`` along a Newton step, and how much of `lr` it went; 0 if it failed.

        Args:
            ground: Where the search is.
            here: Where the step begins.
            direction: Falling; half its slope is what the step is to win.
            products: Of the step.
            said: What was met on the way.
            flat: Whether it is as long as ``memory["reach"]``, for want of curvature: the next one is four
                times as long if this one was gone whole, else a quarter.
        """
        own, memory = self.settings, self.memory
        found = seek(ground, here, direction, own, own["lr"])
        share = found.trial.t / (own["lr"] or 1.0) if found.trial else 0.0
        if flat:
            memory["reach"] = memory.get("reach", 1.0) * (4 if share >= 1 else 0.25)
        step = self.settle(
            ground, here, found.trial, predicted=-0.5 * found.line.start.slope, looks=found.looks,
            products=products, said=said, line=found.line,
        )  # fmt: skip
        return step, share

    def settle(
        self,
        ground: Ground,
        here: Here,
        trial: Trial | None,
        *,
        predicted: float,
        looks: int,
        products: int = 0,
        said: str = "",
        line: Line | None = None,
    ) -> Step:
        """What a step was, that a line search ended at `trial`; None where it found none.

        Steps whose losses are one within rounding count as progress while the gradient still shrinks, down to
        the rounding of the steepest one so far. Where no point below was found along the step, one is looked
        for along the gradient.

        Args:
            ground: Where the search was.
            here: Where the step began.
            trial: Where it ended.
            predicted: What the step was to win.
            looks: Of the search.
            products: Of the step.
            said: What was met on the way.
            line: That was searched last.
        """
        looks, limit = looks + here.evaluations, rounding(here.value, here.x.dtype)
        memory, slope = self.memory, length(here.gradient)
        memory["steepest"] = max(memory.get("steepest", 0.0), slope)
        if trial is None and not (line is not None and torch.equal(line.direction, -here.gradient)):
            line = Line(ground, here.x, -here.gradient, here.value, here.gradient)
            trial = backtracking(line, 1.0 / slope)
            looks += line.evaluations
            said = (
                "; ".join(filter(None, [said, "no point below: the gradient was followed"]))
                if trial
                else said
            )
        if trial is None:
            done = predicted <= limit or (line is not None and line.drowned)
            why = PRECISE if done else "the line search found no point below"
            return Step(here.value, looks, products, False, "; ".join(filter(None, [said, why])), done)
        if trial.t == 0:
            return Step(here.value, looks, products, True, "lr is 0: nothing moves")
        self.keep(ground, trial.x, trial.value, trial.gradient)
        if abs(trial.value - here.value) > limit:
            memory["level"], memory["least"] = 0, math.inf
            return Step(here.value, looks, products, True, said)
        norm = length(trial.gradient)
        memory["level"] = 0 if norm < 0.5 * memory.get("least", math.inf) else memory.get("level", 0) + 1
        memory["least"] = min(norm, memory.get("least", math.inf))
        least = ROUNDINGS * torch.finfo(here.x.dtype).eps * memory["steepest"]
        done = norm <= least or memory["level"] >= PATIENCE
        return Step(here.value, looks, products, True, PRECISE if done else said, done)

    def flat_ground(self, here: Here) -> Step | None:
        """The step from a point without a slope, which is none; None where there is one.

        A slope whose square is zero in this precision is none: methods divide by what it is to win.
        """
        if bool(here.gradient.square().any()):
            return None
        return Step(here.value, here.evaluations, 0, False, LEVEL, True)

    def _decay(self, ground: Ground) -> Tensor | None:
        of = {id(p): group.get("weight_decay", 0.0) for group in self.param_groups for p in group["params"]}
        strengths = [float(of.get(id(p), 0.0)) for p in ground.params]
        if not any(strengths):
            return None
        return flat([torch.full_like(p, each) for p, each in zip(ground.params, strengths, strict=True)])
