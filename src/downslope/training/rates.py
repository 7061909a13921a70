"""The learning rates of a run from step to step: by a factor of each, or by a scheduler as torch has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from downslope.core import names, rates
from downslope.core.errors import DownslopeError, RecipeError
from downslope.core.recipe import Recipe
from downslope.schedules.each_epoch import EachEpoch
from downslope.training.scheduled import Settings

__all__ = ["Rates", "schedule_of"]


class Rates:
    """The learning rates of an optimizer's groups from step to step: each its own, times the schedule.

    A scheduler, made by a recipe's factory, sets them itself, and whatever else it sets (the momentum of
    OneCycleLR); it is stepped after every step, or after every epoch where it is an `each_epoch`, and one
    that wants a measurement (ReduceLROnPlateau) whenever there is one.

    Args:
        recipe: Schedule and warm-up.
        optimizer: Its groups' rates are set; a group without one is left alone.
        total_steps: Of the run; None where the data does not tell.

    Raises:
        RecipeError: the schedule needs the length of the run, and nothing tells it, or its factory fails.
    """

    def __init__(self, recipe: Recipe, optimizer: torch.optim.Optimizer, total_steps: int | None) -> None:
        self.optimizer = optimizer  # whose groups are new ones after a load_state_dict
        self._settings = Settings(recipe, optimizer, total_steps)
        self.base = [group.get("lr") for group in optimizer.param_groups]
        self._leading = self.base.index(recipe.lr) if recipe.lr in self.base else 0
        factory = rates.scheduler(recipe.schedule)
        self.scheduler: Any = None if factory is None else _scheduler(factory, recipe, optimizer)
        self._said = rates.said(recipe.schedule)
        self._measures = isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
        self._by_epoch = isinstance(factory, EachEpoch)
        most = getattr(self.scheduler, "total_steps", None)  # of OneCycleLR
        if isinstance(most, int) and total_steps is not None and not self._by_epoch and most < total_steps:
            raise RecipeError(
                f"schedule={self._said}: it is made for {most} steps, this run has {total_steps}; give it "
                f"total_steps={total_steps}"
            )
        self._made, self._told = 0, list[float]()
        self._start = [_numbers(group) for group in optimizer.param_groups] if factory else []
        self.factor, self._listener = (None, None) if factory else _factor(recipe, total_steps)

    @property
    def changes(self) -> bool:
        """Whether a rate may be another from step to step."""
        return self.factor is not None or self.scheduler is not None

    @property
    def leading(self) -> float:
        """The rate of the group that has the recipe's own; NaN for a method without rates."""
        return float(self.optimizer.param_groups[self._leading].get("lr", math.nan))

    def at(self, step: int) -> None:
        """Set the rates, and the settings on schedules of their own, for a step, counted from 0."""
        self._settings.at(self.optimizer, step)
        if self.scheduler is not None and not self._by_epoch:
            self._forward(step)
        if self.factor is None:
            return
        factor = self.factor(step)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            if base is not None:
                group["lr"] = base * factor

    def epoch_over(self, epochs: int, loss: float | None) -> None:
        """Set the rates for the epoch after so many; the mean loss of the last counts where it is given."""
        if self._by_epoch:
            self._forward(epochs)
        if loss is not None:
            self.told(loss)

    def told(self, loss: float) -> None:
        """Take note of a measured loss, where the schedule wants it."""
        if self._listener is not None:
            self._listener.told(loss)
        if self._measures:
            self._told.append(loss)
            self.scheduler.step(loss)

    def state(self) -> dict[str, Any]:
        """Where the schedule stands, in plain values."""
        if self.scheduler is not None:
            return {"made": self._made, "told": self._told}
        return {} if self._listener is None else {"plateau": self._listener.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state` said. A scheduler is led there again: its own state is no plain data."""
        if self._listener is not None and "plateau" in state:
            self._listener.restore(state["plateau"])
        if self.scheduler is None:
            return
        for group, start in zip(self.optimizer.param_groups, self._start, strict=True):
            group.update(start)
        self._forward(int(state.get("made", 0)))
        for loss in state.get("told", ()):
            self.told(float(loss))

    def follow(self, other: Rates) -> None:
        """Go on from where measurements have led `other`, from rates of its own."""
        if self._listener is not None and other._listener is not None:
            self._listener.restore(other._listener.state())

    def _forward(self, count: int) -> None:
        while self._made < count and not self._measures:
            cast("Any", self.optimizer)._opt_called = True  # by which torch tells that a step was made
            try:
                self.scheduler.step()
            except ValueError as error:  # one that has come to the end of its steps
                line = (str(error).strip().splitlines() or [""])[0]
                raise RecipeError(f"schedule={self._said} failed after {self._made} steps: {line}") from error
            self._made += 1


def _scheduler(factory: Callable[[Any], Any], recipe: Recipe, optimizer: torch.optim.Optimizer) -> Any:
    said = rates.said(recipe.schedule)
    if recipe.warmup:
        raise RecipeError(
            f"warmup={recipe.warmup} with schedule={said}, which makes a scheduler: put the warm-up into it, "
            "as torch.optim.lr_scheduler.SequentialLR does"
        )
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)  # of a scheduler before
    try:
        made = factory(optimizer)
    except DownslopeError:
        raise
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:
        line = (str(error).strip().splitlines() or [""])[0]
        raise RecipeError(f"schedule={said}: {type(error).__name__}: {line}") from error
    if not callable(getattr(made, "step", None)):
        raise RecipeError(f"schedule={said} gave a {type(made).__name__}: must give a scheduler, with step()")
    if getattr(made, "optimizer", optimizer) is not optimizer:
        raise RecipeError(
            f"schedule={said}: the scheduler holds another optimizer than the run's; make it of the argument"
        )
    return made


def _numbers(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a scheduler may change of a group."""
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _factor(recipe: Recipe, total_steps: int | None) -> tuple[Callable[[int], float] | None, Any]:
    """The factor of each step, and what of it wants to be told of measurements."""
    if recipe.schedule is None and not recipe.warmup:
        return None, None
    free = isinstance(recipe.schedule, str) and recipe.schedule.partition("(")[0] in ("constant", "plateau")
    if total_steps is None and recipe.schedule is not None and not free:
        raise RecipeError(
            f"schedule={rates.said(recipe.schedule)!r}: the data does not tell how long an epoch is; "
            "give steps= instead of epochs"
        )
    left = max((total_steps or 1) - recipe.warmup, 1)
    factor = rates.made(recipe.schedule or "constant", left)
    listener = factor if hasattr(factor, "told") else None
    if recipe.warmup:
        factor = names.load("downslope.schedules:warmup")(factor, recipe.warmup)
    return factor, listener


def schedule_of(recipe: Recipe, total_steps: int | None) -> Callable[[int], float] | None:
    """``step -> factor`` of the learning rate, step counted from 0; None where it is constant.

    The schedule spans the steps that the warm-up leaves.

    Raises:
        RecipeError: the schedule needs the length of the run, and nothing tells it.
    """
    return _factor(recipe, total_steps)[0]
