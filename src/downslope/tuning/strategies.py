"""The strategies that compare members on their way, by name."""

from __future__ import annotations

from downslope.core import names
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import Space
from downslope.training.price import total_steps
from downslope.tuning.asynchronous import Asynchronous
from downslope.tuning.became import check_changing
from downslope.tuning.halving import Halving
from downslope.tuning.hyperband import Hyperband
from downslope.tuning.population_based import PopulationBased
from downslope.tuning.stopping_rule import RULES

Strategy = Halving | Hyperband | Asynchronous | PopulationBased

WAITS = ("halving", "hyperband")
"""Strategies with a barrier: who is left behind at a rung is out."""

STRATEGIES = (*WAITS, "asynchronous", "pbt")
"""Those that pause members and let some go on."""

PRUNERS = (*STRATEGIES, *RULES)
"""All names that `tune` takes for ``pruner``; the rules end members as they report."""

LOOKS = 10
"""Looks of population-based training in a run, unless told otherwise."""


def epochs_of(problem: Problem, recipe: Recipe) -> int:
    """Epochs of a whole run, begun ones too."""
    each = total_steps(problem, recipe.edit(epochs=1)) or 1
    return max(1, -(-(total_steps(problem, recipe) or each) // each))


def strategy_of(name: str, epochs: int, space: Space, seed: int = 0) -> Strategy:
    """The strategy of this name for runs of so many epochs, with its defaults.

    Args:
        name: Of `STRATEGIES`.
        epochs: Of a whole run.
        space: What is searched; population-based training changes it on the way.
        seed: Of the draws of population-based training.

    Raises:
        InputError: runs too short to be compared on their way.
    """
    least = 2 if name == "pbt" else 3
    if epochs < least:
        raise InputError(
            f"pruner={name!r} with runs of {epochs}: members are compared after whole epochs, on their way; "
            f"give epochs={least} or more, or no pruner"
        )
    if name == "pbt":
        return PopulationBased(space=space, most=epochs, every=max(1, epochs // LOOKS), seed=seed)
    kinds = {"halving": Halving, "hyperband": Hyperband, "asynchronous": Asynchronous}
    return kinds[name](most=epochs)


def check_pruner(
    name: object,
    problem: Problem,
    recipe: Recipe,
    space: Space,
    *,
    trials: int | None = None,
    widen: bool = False,
    workers: int = 1,
    ray: str | None = None,
) -> None:
    """Refuse a pruner that there is not, or that this search cannot have.

    Raises:
        InputError: no such name (the nearest is told), runs too short, hyper-parameters that cannot change in
            training, or other processes, in which members cannot pause.
    """
    if name is None:
        return
    if name not in PRUNERS:
        raise InputError(f"pruner={name!r} is not known{names.did_you_mean(str(name), PRUNERS)}")
    if name not in STRATEGIES:
        return
    strategy_of(str(name), epochs_of(problem, recipe), space)
    if name == "pbt":
        check_changing(recipe, space)
        if trials == 1:
            raise InputError(
                "pruner='pbt' with trials=1: its trials are its members; give 2 or more, 16 are usual"
            )
    if widen:
        raise InputError(
            f"widen=True with pruner={name!r}: ranges are widened between batches, and a bracket is begun "
            "whole; leave one of them out"
        )
    if workers > 1 or ray:
        where = f"ray={ray!r}" if ray else f"workers={workers}"
        raise InputError(
            f"pruner={name!r} with {where}: its members pause in the memory of one process; leave {where} "
            f"out, or take one of {', '.join(RULES)}"
        )
