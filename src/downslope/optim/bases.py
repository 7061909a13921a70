"""What stands inside a wrapper: an optimizer that is there, or one made by its class, a factory or a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

import torch

from downslope.core import names
from downslope.core.errors import RecipeError

__all__ = ["Base", "looks", "made", "taken"]

Base = torch.optim.Optimizer | type[torch.optim.Optimizer] | Callable[..., torch.optim.Optimizer] | str
"""What makes a base: an optimizer, its class, a factory of parameters, or a name."""


def made(
    given: Any, base: Base, settings: Mapping[str, Any], own: Collection[str]
) -> tuple[torch.optim.Optimizer, list[dict[str, Any]]]:
    """The base of a wrapper.

    Args:
        given: it, or parameters or groups of them for one that is to be made.
        base: what makes it.
        settings: of one that is to be made.
        own: the names of the wrapper's settings, which groups may have too.

    Returns:
        The base; and of every group the entries that are the wrapper's, or nothing where none are given.

    Raises:
        RecipeError: what cannot be a base, or settings of one that is made.
    """
    entries: list[dict[str, Any]] = []
    if isinstance(given, torch.optim.Optimizer):
        if settings:
            raise RecipeError(
                f"{next(iter(settings))} beside an optimizer that is made: give settings to it, or "
                "parameters and its class to the wrapper"
            )
        found: Any = given
    else:
        factory: Any = names.resolve("optimizer", base) if isinstance(base, str) else base
        if isinstance(factory, torch.optim.Optimizer) or not callable(factory):
            raise RecipeError(
                f"{type(factory).__name__} in the place of a class beside parameters: give the optimizer "
                "alone, or the parameters and its class"
            )
        given, entries = _apart(given, [name for name in own if name not in taken(factory)])
        found = factory(given, **settings)
    if not isinstance(found, torch.optim.Optimizer) or not hasattr(found, "param_groups"):
        raise RecipeError(
            f"a base of {type(found).__name__}: must be a torch.optim.Optimizer, its class or name"
        )
    if looks(type(found)):
        raise RecipeError(
            f"{type(found).__name__} as a base: it evaluates the loss by itself; put it outside"
        )
    return found, entries


def _apart(given: Any, own: Collection[str]) -> tuple[Any, list[dict[str, Any]]]:
    """Groups without the entries named `own`, and those of each."""
    if isinstance(given, (torch.Tensor, Mapping)) or not isinstance(given, Iterable):
        return given, []
    found = list(cast("Iterable[Any]", given))
    groups = [cast("dict[str, Any]", each) for each in found if isinstance(each, dict)]
    if len(groups) < len(found):  # parameters; or groups among them, which the base refuses
        return found, []
    rest = [{name: value for name, value in group.items() if name not in own} for group in groups]
    return rest, [{name: group[name] for name in own if name in group} for group in groups]


def looks(base: type[Any]) -> bool:
    """Whether it evaluates the loss by itself, more than once a step."""
    curved = base.__module__.startswith("downslope.terrain")
    return curved or bool(getattr(base, "needs_closure", False)) or issubclass(base, torch.optim.LBFGS)


def taken(base: Any) -> dict[str, Any]:
    """The settings that a base takes, with their defaults."""
    return {
        name: each.default
        for name, each in inspect.signature(base).parameters.items()
        if name not in ("params", "backend") and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }
