"""What a race is asked for: problems, shared recipes, targets, options; refused in one line where unfit."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.names import did_you_mean
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.stated import goal_of
from downslope.training.population.fit_population import WAYS
from downslope.training.population.ray_workers import join


def problems_of(given: Any) -> dict[str, Problem]:
    """The problems by name.

    Raises:
        InputError: none, no problem among them, or two of one name.
    """
    if isinstance(given, Problem):
        pairs: list[tuple[str, Any]] = [(given.name or "problem", given)]
    elif isinstance(given, Mapping):
        pairs = [(str(name), each) for name, each in cast("Mapping[Any, Any]", given).items()]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        several = cast("Sequence[Any]", given)
        pairs = [
            (str(getattr(each, "name", "") or f"problem {i + 1}"), each) for i, each in enumerate(several)
        ]
    else:
        pairs = [("", given)]
    if not pairs:
        raise InputError("no problem: give one, or several in a list or by name")
    for _, each in pairs:
        check_asked(each, None, or_a=", several of them in a list, or by name in a dict")
    found: dict[str, Problem] = dict(pairs)
    if len(found) < len(pairs):
        raise InputError("two problems have one name: give a dict of name to problem")
    return found


def shared_of(given: Any, problems: Mapping[str, Problem]) -> dict[str, Recipe | None]:
    """What mere names share on each problem.

    Raises:
        InputError: a problem that is not raced on, or one that is left out.
        RecipeError: no recipe.
    """
    each = _by_problem("recipe", given, problems)
    if lacking := [name for name in problems if name not in each]:
        raise InputError(
            f"recipe says nothing for {lacking[0]!r}: give one for every problem, or one for all"
        )
    for name, problem in problems.items():
        check_asked(problem, each[name])
    return dict(each)


def targets_of(given: Any, problems: Mapping[str, Problem]) -> dict[str, float | None]:
    """The level to reach on each problem; None where nothing is said of it.

    Raises:
        InputError: a problem that is not raced on, no finite number, or one that the metric cannot have.
    """
    each = _by_problem("target", given, problems)
    return {name: _target(each.get(name), problem) for name, problem in problems.items()}


def _by_problem(what: str, given: Any, problems: Mapping[str, Problem]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return dict.fromkeys(problems, given)
    each = {str(name): value for name, value in cast("Mapping[Any, Any]", given).items()}
    for name in each:
        if name not in problems:
            near = did_you_mean(name, problems)
            raise InputError(f"{what} is given for {name!r}, on which nobody races{near}")
    return each


def _target(given: Any, problem: Problem) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise InputError(
            f"target={given!r}: must be a finite number, the level to reach, or problem to number"
        )
    if problem.metric is not None and problem.valid_source is not None:
        try:
            goal_of(given, problem.metric)
        except InputError as error:
            raise InputError(str(error).replace("goal=", "target=", 1)) from None
    return float(given)


def seconds_of(given: Any) -> float | None:
    """The longest time; None where there is no limit.

    Raises:
        InputError: not a positive number.
    """
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise InputError(f"seconds={given!r}: must lie in (0, inf); leave it out for no limit")
    return None if math.isinf(given) else float(given)


def population_of(workers: Any, ray: Any, way: Any) -> dict[str, Any]:
    """How members are trained, for `fit_population`.

    Raises:
        InputError: no number of workers, no way, or two of them that do not go together.
        ClusterError: a cluster that cannot be joined.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise InputError(f"workers={workers!r}: must be a whole number of at least 1")
    if way not in WAYS:
        raise InputError(f"way={way!r}: must be one of {', '.join(map(repr, WAYS))}")
    if ray is not None:
        if workers > 1:
            raise InputError(f"workers={workers} with ray={ray!r}: give one of them, Ray has its own")
        join(ray)
    return {"workers": workers, "ray": ray, "way": way}


def check_folder(given: Any) -> None:
    """Refuse a folder that is none.

    Raises:
        InputError: neither a path nor None nor False.
    """
    if given is not None and given is not False and not isinstance(given, (str, Path, os.PathLike)):
        raise InputError(f"folder={given!r}: must be a path; None makes one, False keeps nothing")


def check_space(given: Any, contestants: Sequence[str]) -> None:
    """Refuse a space that is none, and one for a contestant that does not race.

    Raises:
        InputError: no mapping, an empty one, or an unknown contestant.
    """
    if given is None:
        return
    if not isinstance(given, Mapping) or not given:
        raise InputError(
            f"space={given!r}: must be a dict of key to dimension, such as {{'lr': ds.log(1e-4, 1)}}, or of "
            "contestant to such a dict"
        )
    for name, each in cast("Mapping[Any, Any]", given).items():
        if isinstance(each, Mapping) and name not in contestants:
            near = did_you_mean(str(name), contestants)
            raise InputError(f"space has one for {name!r}, who does not race{near}")


def check_options(given: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse arguments that a race has not.

    Raises:
        InputError: the first of them, with the nearest that there is.
    """
    for name in given:
        raise InputError(f"{name}={given[name]!r}: a race has no such argument{did_you_mean(name, known)}")


__all__ = [
    "check_folder",
    "check_options",
    "check_space",
    "population_of",
    "problems_of",
    "seconds_of",
    "shared_of",
    "targets_of",
]
