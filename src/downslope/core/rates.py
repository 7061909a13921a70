"""The schedule of a recipe: a name, one with settings such as ``cosine(final=0.1)``, or code.

    schedule = "cosine(final=0.1)"                                        # ours
    schedule = "torch.optim.lr_scheduler:CosineAnnealingLR(T_max=500)"    # torch's, or anybody's, by its
    place schedule = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 30)         # code, in no
    file schedule = lambda total_steps: ds.schedules.warmup(ds.schedules.cosine(total_steps - 9), 9)
    schedule = lambda t: 1 / (1 + t)

What takes an ``optimizer`` first makes a scheduler of it, as torch's classes do, whatever the argument is
called. Everything else takes the length of the run and gives a factor for each step, or is such a function of
the step itself.
"""

from __future__ import annotations

import copy
import functools
import inspect
import numbers
from collections.abc import Callable
from typing import Any, cast

from downslope.core import names
from downslope.core.errors import DownslopeError, RecipeError
from downslope.core.method import Lost
from downslope.core.spelling import Spelt, by_name, parse

__all__ = ["Schedule", "check_filed", "made", "read", "said", "scheduler"]

Schedule = str | Callable[..., Any]


def read(given: Any) -> Schedule:
    """A schedule in its one spelling; code that can be imported becomes its place, other code stays.

    Raises:
        UnknownNameError: no such schedule; the nearest is told.
        RecipeError: a setting that it has not, a value outside its domain, or a scheduler that is made
        already.
    """
    if callable(given):
        return _place(given) or given
    if hasattr(given, "optimizer") and hasattr(given, "step"):
        kind = type(given).__name__
        raise RecipeError(
            f"schedule: a made {kind} holds the optimizer of one run, and every run makes its own; give a "
            f"factory: schedule=lambda optimizer: torch.optim.lr_scheduler.{kind}(optimizer, ...)"
        )
    if not isinstance(given, str) or not ("(" in given or ":" in given):
        return names.canonical("schedule", given)
    found = parse(given) if "(" in given else Spelt(given)
    own = ":" in found.name
    name = found.name if own else names.canonical("schedule", found.name)
    factory = names.resolve("schedule", name)
    if not callable(factory):
        raise RecipeError(f"schedule={given!r}: a {type(factory).__name__}, must be a class or a function")
    spelt = str(Spelt(name, (), by_name(found, _taken(factory))))
    if not own:
        made(spelt, 1)
        return spelt
    try:
        inspect.signature(_bound(spelt)).bind(None)
    except TypeError as error:
        raise RecipeError(f"schedule={spelt}: {error}; write its settings behind it, in brackets") from None
    return spelt


def said(schedule: Schedule | None) -> str:
    """A schedule in words: its text, or the name of the code."""
    if schedule is None or isinstance(schedule, str):
        return str(schedule)
    return str(getattr(schedule, "__name__", type(schedule).__name__))


def check_filed(schedule: Schedule | None) -> None:
    """Refuse code, which no file holds.

    Raises:
        RecipeError: it is code.
    """
    if callable(schedule):
        raise RecipeError(
            f"schedule {said(schedule)} is code, a recipe file holds names: put it into a module and give "
            "its place, schedule='module:function', or torch's own as "
            "'torch.optim.lr_scheduler:StepLR(step_size=30)'"
        )


def scheduler(schedule: Schedule | None) -> Callable[[Any], Any] | None:
    """What makes a scheduler of an optimizer, where the schedule is such a factory; else None."""
    if schedule is None or isinstance(schedule, Lost) or (isinstance(schedule, str) and ":" not in schedule):
        return None
    factory = _bound(schedule) if isinstance(schedule, str) else schedule
    return factory if _arguments(factory)[:1] == ["optimizer"] or _wants_optimizer(factory) else None


def _wants_optimizer(factory: Callable[..., Any]) -> bool:
    """Whether a factory whose argument is called something else fails on a number for it is no optimizer."""
    if isinstance(factory, type) or hasattr(factory, "told") or not _arguments(factory):
        return False
    try:
        factory(1)
    except AttributeError as error:
        return error.name == "param_groups"
    except TypeError as error:
        return str(error) == "int is not an Optimizer"  # torch's LRScheduler
    except (DownslopeError, ValueError, ArithmeticError, LookupError, RuntimeError):
        return False  # `made` tells of it
    return False


def made(schedule: Schedule, total_steps: int) -> Callable[[int], float]:
    """``step -> factor`` of the schedule over a run of `total_steps`.

    Raises:
        RecipeError: a setting that it has not, a value outside its domain, or code that fails or gives
            neither a number nor a function.
    """
    factory = _bound(schedule) if isinstance(schedule, str) else schedule
    try:
        found: Any = factory(total_steps)
    except DownslopeError:
        raise
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:
        raise RecipeError(f"schedule={said(schedule)}: {type(error).__name__}: {error}") from None
    if isinstance(found, numbers.Real):
        return cast("Callable[[int], float]", copy.deepcopy(factory))  # a `Plateau` is of one run
    if not callable(found):
        raise RecipeError(
            f"schedule={said(schedule)} gave a {type(found).__name__} for {total_steps}: must give a "
            "function of the step, a factor, or, from an argument named optimizer, a scheduler"
        )
    return cast("Callable[[int], float]", found)


def _bound(schedule: str) -> Callable[..., Any]:
    """What a text stands for, with its settings."""
    found = parse(schedule) if "(" in schedule else Spelt(schedule)
    factory = names.resolve("schedule", found.name)
    taken = _taken(factory)
    settings = by_name(found, taken)
    for key in settings:
        if key not in taken:
            raise RecipeError(
                f"schedule {found.name!r} has no setting {key!r}{names.did_you_mean(key, taken)}"
            )
    return functools.partial(factory, **settings) if settings else factory


def _taken(factory: Callable[..., Any]) -> list[str]:
    """The settings of a schedule, in their order."""
    return _arguments(factory)[1:]


def _arguments(factory: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return []


def _place(code: Callable[..., Any]) -> str | None:
    """A name of ours, or where code can be imported from; None for what is only here."""
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return None
    own = next((each for each, place in names.TABLE["schedule"].items() if place.endswith(f":{name}")), None)
    if own is not None and names.resolve("schedule", own) is code:
        return own
    try:
        return f"{module}:{name}" if names.load(f"{module}:{name}") is code else None
    except DownslopeError:
        return None
