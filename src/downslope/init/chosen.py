"""From a name and settings to what initialises: a rule for one weight, or a method for a whole model."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import names, starts
from downslope.core.errors import RecipeError
from downslope.init.own import Own, own

Rule = Callable[..., None]

HIDDEN = frozenset({"follows", "leak", "batch"})
"""Keyword arguments that are found out, and not set."""


def whole(check: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark a method that initialises a whole model, and no weight by itself: ``(model, generator, ...)``.

    Args:
        check: Called with its settings by name; raises where one is outside its domain.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method.checks = check  # pyright: ignore[reportFunctionMemberAccess]
        return method

    return mark


def is_whole(method: Any) -> bool:
    """Whether `method` initialises a whole model."""
    return hasattr(inner(method), "checks")


def settings_of(name: str) -> dict[str, Any]:
    """The settings of an initialisation with their defaults; ``scale``, a factor on its draws, among them.

    Raises:
        UnknownNameError: no such initialisation.
    """
    rule = names.resolve("init", name)
    parameters = inspect.signature(rule).parameters
    found = {
        key: each.default
        for key, each in parameters.items()
        if each.kind is each.KEYWORD_ONLY and key not in HIDDEN
    }
    return found if isinstance(own(rule), Own) else found | {"scale": 1.0}


def check(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` of an initialisation as they are kept, each tried out.

    Raises:
        RecipeError: a setting that it has not, or no number where one is due.
        ModelError: a value outside the rule's domain.
    """
    known = settings_of(name)
    for key, value in settings.items():
        if key not in known:
            raise RecipeError(f"init {name}: {key!r} is no setting of it{names.did_you_mean(key, known)}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(known[key], float) and not number:
            raise RecipeError(f"init {name}: {key}={value!r}: must be a number")
    kept = {key: _plain(known[key], value) for key, value in settings.items()}
    scale = kept.get("scale", 1.0)
    if not 0 <= scale < math.inf:
        raise RecipeError(f"init {name}: scale={scale:g}: must lie in [0, inf), it multiplies what is drawn")
    rule = _made({"name": name, **kept})
    if is_whole(rule):
        inner(rule).checks(**known | kept)
    else:
        rule(torch.empty(2, 2), torch.Generator())
    return kept


def _plain(default: Any, value: Any) -> Any:
    return float(value) if isinstance(default, float) else value


def chosen(init: str | Mapping[str, Any] | Rule) -> Rule:
    """What `init` stands for, with its settings in place.

    Args:
        init: A name, alone or with settings, a table of these, or a function of the user's own (`own`).

    Raises:
        UnknownNameError: no such name.
        RecipeError: a setting that it has not, or a value outside its domain.
    """
    if callable(init):
        return own(init)
    if isinstance(init, str) or not isinstance(init.get("base"), nn.Module):  # the base of muP, already made
        init = cast("str | dict[str, Any]", starts.read(init))
    return _made({"name": init} if isinstance(init, str) else init)


def _made(given: Mapping[str, Any]) -> Rule:
    table = dict(given)
    rule: Rule = own(names.resolve("init", table.pop("name")))
    if is_whole(rule):
        return functools.partial(rule, **table) if table else rule
    scale = float(table.pop("scale", 1.0))
    rule = functools.partial(rule, **table) if table else rule
    return rule if scale == 1.0 else functools.partial(_scaled, rule, scale)


def asks_what_follows(rule: Rule) -> bool:
    """Whether a rule is to be told of the activation that reads the weight, as `auto` is."""
    try:
        return "follows" in inspect.signature(inner(rule)).parameters
    except (TypeError, ValueError):
        return False


def inner(rule: Rule) -> Any:
    """The function inside of what `chosen` gave, without settings and scale."""
    while isinstance(rule, functools.partial):
        held = cast("functools.partial[None]", rule)
        rule = held.args[0] if held.func is _scaled else held.func
    return rule


@torch.no_grad()
def _scaled(
    rule: Rule, scale: float, weight: Tensor, generator: torch.Generator | None = None, **found: Any
) -> None:
    """What `rule` draws, times `scale`."""
    rule(weight, generator, **found)
    weight.mul_(scale)
