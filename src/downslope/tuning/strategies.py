"""The strategies that compare members on their way, by name."""

from __future__ import annotations

from typing import Literal

from downslope.core import names
from downslope.core.errors import InputError
from downslope.core.space import Space
from downslope.tuning.asynchronous import Asynchronous
from downslope.tuning.halving import Halving
from downslope.tuning.hyperband import Hyperband
from downslope.tuning.population_based import PopulationBased
from downslope.tuning.stopping_rule import RULES

Strategy = Halving | Hyperband | Asynchronous | PopulationBased

STRATEGIES = ("halving", "hyperband", "asynchronous", "pbt")
"""Those that pause members and let some go on."""

PRUNERS = (*STRATEGIES, *RULES)
"""All names that `tune` takes for ``pruner``."""

LOOKS = 10
"""Looks of population-based training in a run, unless told otherwise."""


def pauses(name: str | None) -> bool:
    """Whether it is one that pauses members, and no rule that ends them as they report.

    Raises:
        InputError: no such name; the nearest is told.
    """
    if name is not None and name not in PRUNERS:
        raise InputError(
            f"pruner={name!r}: must be one of {', '.join(PRUNERS)}{names.did_you_mean(name, PRUNERS)}"
        )
    return name in STRATEGIES


def strategy_of(
    name: Literal["halving", "hyperband", "asynchronous", "pbt"], epochs: int, space: Space, seed: int = 0
) -> Strategy:
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
            f"pruner={name!r} with epochs={epochs}: members are compared after whole epochs, on their way; "
            f"give at least {least} epochs"
        )
    if name == "pbt":
        return PopulationBased(space=space, most=epochs, every=max(1, epochs // LOOKS), seed=seed)
    kinds = {"halving": Halving, "hyperband": Hyperband, "asynchronous": Asynchronous}
    return kinds[name](most=epochs)
