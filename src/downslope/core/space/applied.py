"""A point of a space on a problem and a recipe; and a space held against what it is to be searched for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from downslope.core import names
from downslope.core.errors import DownslopeError, SpaceError
from downslope.core.method import key_of, optimizer_defaults
from downslope.core.space.dimension import Choice, Dimension, Space, When
from downslope.core.space.ranges import when
from downslope.core.space.spelt import parse

if TYPE_CHECKING:
    from downslope.core.problem import Problem
    from downslope.core.recipe import Recipe

_PROBLEM = ("model.", "objective.")
_FIELDS = ("objective", "augment")
"""Fields of a problem that a name stands for; a search may choose among names."""
_HEADS = ("model", "objective", "init", "augment")
_log = logging.getLogger("downslope")


def read(given: Any) -> dict[str, Dimension]:
    """A space of dimensions, of texts (``"log:1e-4:1"``) and of lists of options.

    Raises:
        SpaceError: no mapping, an empty one, or a value that is no dimension; a tuple of two numbers, which
            may be meant as a range, is none either.
    """
    if not isinstance(given, Mapping):
        raise SpaceError(
            f"space={given!r}: must be a dict of key to dimension, such as {{'lr': ds.log(1e-4, 1)}}"
        )
    found: dict[str, Dimension] = {}
    for key, value in cast("Mapping[Any, Any]", given).items():
        if isinstance(value, str):
            value = parse(value)
        elif isinstance(value, tuple) and _pair(pair := cast("tuple[Any, ...]", value)):
            raise SpaceError(f"space[{key!r}]={pair!r}: {_either(*pair)}")
        elif isinstance(value, (list, tuple)):
            value = Choice(tuple(cast("Sequence[Any]", value)))
        if not isinstance(value, Dimension) or not isinstance(key, str):
            raise SpaceError(
                f"space[{key!r}]={value!r}: must be a dimension, such as ds.log(1e-4, 1) or "
                "ds.choice('a', 'b'); a fixed value goes into the recipe"
            )
        found[key.strip()] = value
    return found


def _pair(value: tuple[Any, ...]) -> bool:
    """Whether it is two numbers, which may be meant as a range."""
    return len(value) == 2 and all(type(each) in (int, float) for each in value)


def _either(low: float, high: float) -> str:
    """What two numbers may mean, and how each is said."""
    low, high = sorted((low, high))
    kind = "integer" if type(low) is type(high) is int and low else "log" if low > 0 else "uniform"
    return f"a range is ds.{kind}({low!r}, {high!r}), two options are ds.choice({low!r}, {high!r})"


def settled(problem: Problem, recipe: Recipe, space: Mapping[str, Any]) -> dict[str, Dimension]:
    """`space` as it can be searched on this problem and recipe.

    Settings that only some options of a searched optimizer or initialisation have get that as condition.
    Both ends of every dimension, and a value between them, are tried on the recipe.

    Raises:
        SpaceError: a key that neither problem nor recipe has (the nearest is told), a condition on what is
            not searched, or an end that lies outside of what the key may be.
    """
    found = read(space)
    heads = {key: found[key] for key in ("optimizer", "init") if key in found}
    variants = {key: _variants(recipe, key, each) for key, each in heads.items()}
    for key in list(found):
        found[key] = _known(problem, recipe, key, found[key], variants)
    _check_conditions(found)
    with quiet():
        for key, each in found.items():
            for value in _ends(each):
                _try(problem, recipe, found, key, value, variants)
    return found


def draw(space: Space, us: Sequence[float]) -> dict[str, Any]:
    """The values at the quantiles `us`, one a dimension in order, without what its condition rules out."""
    drawn = {key: each.draw(u) for (key, each), u in zip(space.items(), us, strict=True)}
    return holding(space, drawn)


def holding(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without the keys whose conditions they do not meet."""
    kept = {key: values[key] for key in space if key in values}
    while True:
        lost = [key for key in kept if isinstance(each := space[key], When) and not each.holds(kept)]
        if not lost:
            return kept
        kept = {key: value for key, value in kept.items() if key not in lost}


def applied(problem: Problem, recipe: Recipe, values: Mapping[str, Any]) -> tuple[Problem, Recipe]:
    """Problem and recipe with these values of keys.

    A key is one of the recipe ("lr", "momentum", "init.scale"), one entry of a setting that has several
    ("betas.0"), an argument of the model's factory ("model.width") or a setting of the objective
    ("objective.label_smoothing"). A batch size without a rate rescales the rate, as `Recipe.edit` does.

    Raises:
        InputError: a key that neither has, or a value outside its domain.
    """
    of_problem = {key: value for key, value in values.items() if _of_problem(key)}
    of_recipe = {key: value for key, value in values.items() if key not in of_problem}
    with quiet():
        changes = _entries(recipe, of_recipe)
        return (
            problem.edit(**of_problem) if of_problem else problem,
            recipe.edit(**changes) if changes else recipe,
        )


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """A block in which changes of the batch size do not say what they do to the rate, hundreds of times."""

    def other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("batch_size ")

    _log.addFilter(other)
    try:
        yield
    finally:
        _log.removeFilter(other)


def _of_problem(key: str) -> bool:
    return key.startswith(_PROBLEM) or key in _FIELDS


def _entries(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a recipe, entries such as "betas.0" put into the whole setting."""
    whole = {key: value for key, value in values.items() if not _entry(key)}
    entries = {key: value for key, value in values.items() if _entry(key)}
    for key, value in entries.items():
        name, _, index = key.rpartition(".")
        base = whole.get(name, _setting(recipe, name, whole.get("optimizer", recipe.optimizer)))
        if not isinstance(base, (tuple, list)) or int(index) >= len(cast("Sequence[Any]", base)):
            raise SpaceError(f"{key!r}: {recipe.optimizer} has no {name} with {int(index) + 1} entries")
        changed = list(cast("Sequence[Any]", base))
        changed[int(index)] = value
        whole[name] = tuple(changed)
    return whole


def _entry(key: str) -> bool:
    return key.rpartition(".")[2].isdigit() and "." in key


def _setting(recipe: Recipe, name: str, optimizer: Any) -> Any:
    if optimizer == recipe.optimizer and name in recipe.settings:
        return recipe.settings[name]
    return optimizer_defaults(optimizer).get(name)


def _variants(recipe: Recipe, key: str, of: Dimension) -> dict[Any, Recipe]:
    """Option to the recipe with it, for a searched optimizer or initialisation."""
    if not isinstance(of.inner, Choice):
        return {}
    try:
        with quiet():
            return {option: recipe.edit(**{key: option}) for option in of.grid(1)}
    except DownslopeError as error:
        raise SpaceError(f"space[{key!r}]: {error}") from None


def _known(
    problem: Problem,
    recipe: Recipe,
    key: str,
    dimension: Dimension,
    variants: Mapping[str, Mapping[Any, Recipe]],
) -> Dimension:
    """`dimension` of `key`, with the condition that it has by itself.

    Raises:
        SpaceError: nothing has such a key.
    """
    if key == "seed":
        raise SpaceError(
            "'seed' is no hyper-parameter: a lucky seed is not a better recipe; seeds=3 averages over three"
        )
    if key.startswith("model."):
        problem.argument(key.removeprefix("model."))
        return dimension
    if _of_problem(key) or (_takes(recipe, key) and not any(variants.values())):
        return dimension
    for head, each in variants.items():
        taking = [option for option, variant in each.items() if _takes(variant, key)]
        if taking and len(taking) < len(each) and head != key:
            return when(dimension, **{head: taking})
        if taking:
            return dimension
    if _takes(recipe, key):
        return dimension
    allowed = {
        *_keys(recipe),
        *(name for each in variants.values() for variant in each.values() for name in _keys(variant)),
    }
    meant = names.RECIPE_KEYS.get(key, key_of(recipe.optimizer, key))
    known = {*allowed, *_HEADS} - {"seed"}
    hint = f"; did you mean {meant!r}?" if meant in allowed else names.did_you_mean(key, known)
    if key.startswith("init.") and recipe.init is None and "init" not in variants:
        raise SpaceError(f"space: {key!r} needs an init that has it, and the recipe has none: set init=he")
    raise SpaceError(f"space: {key!r} is no key of the recipe or the problem{hint}")


def _takes(recipe: Recipe, key: str) -> bool:
    if not _entry(key):
        return key in _keys(recipe)
    name, _, index = key.rpartition(".")
    base = _setting(recipe, name, recipe.optimizer)
    return isinstance(base, (tuple, list)) and int(index) < len(cast("Sequence[Any]", base))


def _keys(recipe: Recipe) -> list[str]:
    return recipe.keys()


def _check_conditions(space: Space) -> None:
    """Refuse conditions on what is not searched, that nothing meets, or that go round in a circle."""
    for key, each in space.items():
        for on, allowed in each.conditions if isinstance(each, When) else ():
            if on not in space:
                hint = names.did_you_mean(on, space)
                raise SpaceError(f"space[{key!r}]: its condition is on {on!r}, which is not searched{hint}")
            for value in allowed:
                try:
                    space[on].place(value)
                except SpaceError:
                    raise SpaceError(
                        f"space[{key!r}]: when {on}={value!r}, which {on} never is: {space[on]}"
                    ) from None
        _upwards(space, key, ())


def _upwards(space: Space, key: str, seen: tuple[str, ...]) -> None:
    if key in seen:
        raise SpaceError(f"space: conditions go round in a circle: {' needs '.join((*seen, key))}")
    each = space[key]
    for on, _ in each.conditions if isinstance(each, When) else ():
        _upwards(space, on, (*seen, key))


def _ends(dimension: Dimension) -> list[Any]:
    """Both ends, and one in between: a fraction where both ends are whole; every option of a choice."""
    return [*dimension.grid(2), dimension.draw(0.4142)]


def _try(
    problem: Problem,
    recipe: Recipe,
    space: Space,
    key: str,
    value: Any,
    variants: Mapping[str, Mapping[Any, Recipe]],
) -> None:
    """Apply one value, beside what it hangs on.

    Raises:
        SpaceError: it lies outside of what the key may be.
    """
    values, above = {key: value}, [key]
    while above:
        each = space[above.pop()]
        for on, allowed in each.conditions if isinstance(each, When) else ():
            if on not in values:
                values[on] = allowed[0]
                above.append(on)
    for head, each in variants.items():  # the recipe as it is may lack what every option here has
        taking = [option for option, variant in each.items() if _takes(variant, key)]
        if taking and head not in values and not _takes(recipe, key):
            values = {head: taking[0]} | values
    try:
        applied(problem, recipe, values)
    except DownslopeError as error:
        raise SpaceError(f"space[{key!r}] = {space[key]}: {error}") from None
