"""Who races: names of optimizers or whole recipes, each with a space in which it is tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from downslope.core import names
from downslope.core.errors import InputError, RecipeError, SpaceError, UnknownNameError
from downslope.core.method import is_named, optimizer_defaults
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.space import Dimension, applied, settled
from downslope.tuning.defaults import default_space
from downslope.tuning.samplers.random import Random

_OF_OPTIMIZER = ("optimizer", "lr", "groups", "layer_decay")
"""Keys of a common recipe that one optimizer's own values stand in."""


@dataclass(frozen=True)
class Contestant:
    """One that races.

    Attributes:
        name: Unique in the race.
        recipe: As given; for a mere name the common recipe with that optimizer and its own rate.
    """

    name: str
    recipe: Recipe

    def space(self, problem: Problem, given: Mapping[str, Any] | None) -> dict[str, Dimension]:
        """What it is tuned over: a space of its own, the one for all, or its optimizer's default space.

        Raises:
            SpaceError: nothing of it can be searched, or a key that nothing has.
        """
        if given is None:
            return settled(problem, self.recipe, default_space(self.recipe))
        own = given.get(self.name) if isinstance(given.get(self.name), Mapping) else None
        own = own or {key: each for key, each in given.items() if not isinstance(each, Mapping)}
        try:
            return settled(problem, self.recipe, own or default_space(self.recipe))
        except SpaceError as error:
            raise SpaceError(f"contestant {self.name!r}: {error}") from None

    def trials(
        self, problem: Problem, space: Mapping[str, Dimension], numbers: Iterable[int], seed: int
    ) -> list[tuple[dict[str, Any], Problem, Recipe]]:
        """Values, problem and recipe of the trials of these numbers: 0 is as given, the others are random.

        Draws have addresses (seed, trial, key): contestants that share a key share its quantiles, so that
        none owes its place to luckier draws.
        """
        drawn = Random(space, seed=seed)
        values: list[dict[str, Any]] = [drawn.at(i - 1) if i else {} for i in numbers]
        return [(each, *self.at(problem, each)) for each in values]

    def at(self, problem: Problem, values: Mapping[str, Any]) -> tuple[Problem, Recipe]:
        """Problem and recipe with `values`."""
        return applied(problem, self.recipe, values) if values else (problem, self.recipe)


def contestants_of(given: Any, common: Recipe | None) -> list[Contestant]:
    """The contestants, each with its name.

    Args:
        given: Names, recipes or both in a sequence, or a mapping of name to either.
        common: What mere names take over: batch size, length, schedule and all that is not the optimizer's.

    Raises:
        InputError: none, one alone, or two of one name.
        UnknownNameError: no such optimizer; the nearest is told.
    """
    if isinstance(given, (str, Recipe)) or not isinstance(given, (Sequence, Mapping)):
        raise InputError(
            f"contestants={given!r}: must be a list of optimizers or recipes, such as ['sgd', 'adam'], or a "
            "dict of name to recipe"
        )
    if isinstance(given, Mapping):
        pairs = list(cast("Mapping[Any, Any]", given).items())
    else:
        pairs = [(None, each) for each in cast("Sequence[Any]", given)]
    if any(isinstance(name, str) and not name.strip() for name, _ in pairs):
        raise InputError("a contestant without a name: the dict is of name to optimizer or recipe")
    if not pairs:
        raise InputError("no contestants: give at least two, such as ['sgd', 'adam']")
    found = [_contestant(name, each, common or Recipe()) for name, each in pairs]
    if len(found) == 1:
        raise InputError(f"one contestant, {found[0].name!r}: a race needs two; ds.tune tunes one")
    seen = [each.name for each in found]
    for name in seen:
        if seen.count(name) > 1:
            raise InputError(
                f"two contestants are called {name!r}: give a dict, {{'{name} a': ..., '{name} b': ...}}"
            )
    return found


def _contestant(name: Any, given: Any, common: Recipe) -> Contestant:
    if isinstance(given, Recipe):
        said = (
            given.optimizer
            if isinstance(given.optimizer, str)
            else getattr(given.optimizer, "__name__", "own")
        )
        return Contestant(str(name) if name is not None else _short(said), given)
    if not isinstance(given, str) and not callable(given):
        raise InputError(f"contestant {given!r}: must be the name of an optimizer, or a ds.Recipe")
    recipe = _with(common, given)
    said = recipe.optimizer if isinstance(recipe.optimizer, str) else getattr(given, "__name__", "own")
    return Contestant(str(name) if name is not None else _short(said), recipe)


def _with(common: Recipe, optimizer: Any) -> Recipe:
    """The common recipe with another optimizer, and that one's own rate and settings."""
    if isinstance(optimizer, str) and ":" not in optimizer:
        try:
            optimizer = names.canonical("optimizer", optimizer)
        except UnknownNameError as error:
            raise UnknownNameError(f"{error}{_of_torch(optimizer)}") from None
    kept = {key: getattr(common, key) for key in common.said if key not in (*_OF_OPTIMIZER, *common.settings)}
    if "weight_decay" in kept and is_named(optimizer) and "weight_decay" not in optimizer_defaults(optimizer):
        kept.pop("weight_decay")
    if isinstance(optimizer, str) and ":" not in optimizer:
        needs = getattr(names.resolve("optimizer", optimizer), "batch", None)
        if needs in ("full", "large"):
            kept["batch_size"] = "full"
    if optimizer == common.optimizer:
        kept |= {
            key: getattr(common, key) for key in common.said if key in (*_OF_OPTIMIZER, *common.settings)
        }
    try:
        return Recipe(**kept | {"optimizer": optimizer})
    except RecipeError as error:
        raise RecipeError(f"contestant {optimizer!r}: {error}") from None


def _of_torch(name: str) -> str:
    """Where torch has an optimizer of that name."""
    from torch import optim

    wanted = name.strip().lower().replace("_", "").replace("-", "")
    for each in dir(optim):
        if each.lower() == wanted and isinstance(getattr(optim, each), type):
            return f"; torch's own is 'torch.optim:{each}'"
    return ""


def _short(optimizer: str) -> str:
    return optimizer.rpartition(":")[2]
