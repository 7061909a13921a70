"""What a search was asked to do, checked before anything is trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.plain import plain
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import Dimension, Space, settled
from downslope.tuning.alike import judged_alike
from downslope.tuning.defaults import default_space
from downslope.tuning.samplers import Sampler, sampler_of
from downslope.tuning.strategies import check_pruner

_log = logging.getLogger("downslope")

TRIALS = 64
"""Trials of a search whose budget is not said."""

CONFIRM, FRESH = 3, 5
"""How many of the best are trained again, and with how many fresh seeds each."""

BATCH, LEARNING = 32, 8
"""Trials that are begun together: of a sampler that draws blindly, and of one that learns between batches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A search to be made; `planned` checks what is asked for.

    Attributes:
        space: Key to dimension, as it is searched; widened ones too.
        asked: As it was when the search began.
        seeds: Runs of each trial; its value is their mean.
        batch: Trials that are begun together, at most.
    """

    problem: Problem
    recipe: Recipe
    space: dict[str, Dimension]
    asked: dict[str, Dimension]
    sampler: str = "random"
    pruner: str | None = None
    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None
    seeds: int = 1
    batch: int = BATCH
    seed: int = 0
    widen: bool = False
    confirm: int = CONFIRM
    fresh: int = FRESH
    workers: int = 1
    ray: str | None = None

    @property
    def direction(self) -> Literal["min", "max"]:
        """Which way the value is better."""
        return self.problem.direction

    @property
    def measure(self) -> str:
        """What the value is, in words: "valid accuracy"."""
        where = "train" if self.problem.valid_source is None else "valid"
        metric = self.problem.metric
        return f"{where} {self._bare if metric is None else getattr(metric, '__name__', 'metric')}"

    @property
    def _bare(self) -> str:
        return "objective" if self.problem.maximize else "loss"

    @property
    def signature(self) -> dict[str, Any]:
        """What makes it this search and no other, in plain values."""
        recipe = str(self.recipe) if self.recipe.coded else self.recipe.to_dict()
        own = {"sampler": self.sampler, "seed": self.seed, "seeds": self.seeds}
        described = self.problem.describe()
        for key in ("task", "name", "data", "weights"):  # where it lies differs from machine to machine
            described.pop(key, None)
        return plain({"problem": described, "recipe": recipe, "measure": self.measure} | own)

    def make_sampler(self) -> Sampler:
        """The sampler over the space as it is now."""
        made = sampler_of(self.sampler)(
            self.space, seed=self.seed, direction=self.direction, trials=self.trials
        )
        made.repeats = self.pruner == "pbt"
        return made

    def over(self, space: Space) -> Plan:
        """The same search over another space."""
        return replace(self, space=dict(space))


def planned(
    problem: Problem,
    recipe: Recipe | None,
    space: Mapping[str, Any] | None,
    **asked: Any,
) -> Plan:
    """The plan of what `tune` is asked for.

    Raises:
        InputError: what is no problem, recipe or space, or a number outside of its domain.
    """
    check_asked(problem, recipe)
    recipe = recipe or Recipe()
    for key in ("trials", "steps", "batch"):
        _whole(key, asked[key], least=1, none=True)
    for key, least in (("seeds", 1), ("confirm", 0), ("fresh", 2), ("workers", 1)):
        _whole(key, asked[key], least=least)
    if asked["ray"] is not None and asked["workers"] > 1:
        raise InputError(
            f"workers={asked['workers']} with ray={asked['ray']!r}: give one of them, Ray has its own"
        )
    seconds: Any = asked["seconds"]
    if seconds is not None and not (
        isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < math.inf
    ):
        raise InputError(f"seconds={seconds!r}: must lie in (0, inf); leave it out for no limit")
    seed: Any = asked["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed={seed!r}: must be a whole number in [0, 2**63)")
    if all(asked[key] is None for key in ("trials", "seconds", "steps")):
        asked["trials"] = TRIALS
    kind = sampler_of(asked["sampler"])
    if space is not None and not space:
        raise InputError(
            "space={}: there is nothing to search; leave space out for the default, or name a key"
        )
    wanted = settled(problem, recipe, default_space(recipe) if space is None else space)
    problem = judged_alike(problem, wanted)
    asked["sampler"] = kind.name
    if asked["batch"] is None:
        asked["batch"] = LEARNING if kind.models else BATCH
    how = {key: asked[key] for key in ("trials", "widen", "workers", "ray")}
    check_pruner(asked["pruner"], problem, recipe, wanted, **how)
    if "batch_size" in wanted and "lr" not in wanted and recipe.lr:
        _log.warning("tune: batch_size is searched and lr is not: the rate is rescaled with each batch size")
    if asked["ray"] is not None:
        from downslope.training.population.ray_workers import join

        join(asked["ray"])
    plan = Plan(problem=problem, recipe=recipe, space=wanted, asked=wanted, **asked)
    if kind.name == "cma":
        plan.make_sampler().ask([], 1)  # refuses before anything is trained where its package is missing
    if kind.name == "grid" and plan.trials is not None:
        _tell_of_points(plan.make_sampler(), plan.trials)
    return plan


def _tell_of_points(grid: Any, trials: int) -> None:
    """Say where a grid is larger than what was asked for: it has two values a dimension at least."""
    points = len(grid.points)
    if points > trials:
        _log.warning("tune: the grid has %d points, of which %d trials take some by lot", points, trials)


def _whole(key: str, value: Any, *, least: int, none: bool = False) -> None:
    if none and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(
            f"{key}={value!r}: must be a whole number from {least}" + (", or left out" if none else "")
        )
