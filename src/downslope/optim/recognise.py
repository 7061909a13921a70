"""What an optimizer factory makes, as a name and settings, so that it can be edited and written to a file;
and back.

`recognise` calls the factory once, on throw-away parameters. `build` makes an optimizer from name and
settings. What several groups have in common, and whom they hold, is in `grouping`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.adapted import named_parameters
from downslope.core.errors import DownslopeError, RecipeError
from downslope.core.groups import Group
from downslope.core.method import WHOLE
from downslope.optim.domains import check_name
from downslope.optim.driver import Optimizer
from downslope.optim.grouping import (
    PositionError,
    about_positions,
    arguments,
    by_dimensions,
    by_names,
    common_settings,
    has_others,
    takes_all_alike,
    throw_away,
    wanted,
)
from downslope.optim.implementation import IMPLEMENTATION, OF_ALL
from downslope.optim.notes import unsaid

__all__ = ["Recognised", "build", "decays_by_group", "recognise", "recognise_on"]

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Recognised:
    """What `recognise` found out."""

    name: str | None
    """Ours (``"adam"``), a class (``"torch.optim:ASGD"``), the factory's import path, or None: only code."""
    lr: float | None = None
    """The learning rate, or None where `build` must not be given one."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further arguments of the class that differ from its defaults."""
    groups: tuple[Group, ...] = ()
    """Parameters with settings of their own; empty where all take the same."""
    description: str = ""
    """What it is, in words, for a message."""

    @property
    def editable(self) -> bool:
        """Whether the learning rate and the settings can be changed by name."""
        return self.lr is not None


def recognise(factory: Factory) -> Recognised:
    """What `factory` makes of parameters.

    The factory is called with lists of throw-away parameters of several shapes. A class of torch.optim or of
    ours that takes all of them gives the class and the settings that differ from its defaults; torch's
    classes get our name where ours does exactly the same. Several groups are recognised where the number of
    dimensions tells which parameter goes where, whatever the list. Groups that hang on the model, and
    factories of a ``model`` or of ``named_parameters``, wait for `recognise_on`. Anything else is described,
    and kept by its import path if it has one.

    Args:
        factory: ``params -> torch.optim.Optimizer``, a class too; see `recognise_on` for what it may take.

    Raises:
        RecipeError: the factory raises, or returns no optimizer.
    """
    if wanted(factory) != "params":
        return Recognised(_import_path(factory), description=f"a factory of {wanted(factory)}")
    lists = throw_away()
    try:
        with unsaid():
            made = [_called(factory, list(params)) for params in lists[:1]]
            if not takes_all_alike(made[0], lists[0]):
                made += [_called(factory, list(params)) for params in lists[1:]]
    except PositionError as error:
        return Recognised(_import_path(factory), description=str(error))
    described = _described(made[0])
    groups = () if len(made) == 1 else by_dimensions(made, lists)
    if groups is None or _reference_of_class(_class_of(made[0])) is None:
        return Recognised(_import_path(factory), description=described)
    found = _as_name(made[0], groups) or Recognised(_import_path(factory), description=described)
    if found.lr is None or isinstance(factory, type):
        return found
    return replace(found, settings={**getattr(_class_of(made[0]), "unnamed", {}), **found.settings})


def recognise_on(factory: Factory, model: nn.Module) -> Recognised:
    """What `factory` makes of the parameters of `model` that take a gradient, its groups by their names.

    Args:
        factory: Called once. By the name of its first argument it gets the list of parameters, the
            ``named_parameters`` as (name, parameter) pairs, or the ``model`` itself (the user's own, inside
            adaptations). What it leaves out or freezes becomes a group with ``train = false``.
        model: Unchanged, unless the factory changes it.

    Raises:
        RecipeError: the factory raises, or returns no optimizer.
    """
    named = [(names_of, p) for names_of, p in named_parameters(model) if p.requires_grad]
    given, seen = arguments(wanted(factory), model, named)
    try:
        optimizer = _called(factory, given)
    except PositionError as error:
        raise RecipeError(str(error)) from error
    groups = () if takes_all_alike(optimizer, [p for _, p in named]) else by_names(optimizer, named, seen)
    known = _reference_of_class(_class_of(optimizer)) is not None and not has_others(optimizer, model)
    found = _as_name(optimizer, groups) if known else None
    return found or Recognised(_import_path(factory), description=_described(optimizer))


@functools.lru_cache(maxsize=64)
def decays_by_group(made: type[Any]) -> bool:
    """Whether a class lets groups of parameters have a weight decay of their own, as torch's and ours do.

    Others may keep one number for all, or take no groups. One that cannot be made without more arguments
    counts as torch's; what it refuses is told when it is made.
    """
    if made.__module__.startswith(("torch.optim.", "downslope.")):
        return True
    one, other = (nn.Parameter(torch.zeros(2, 2)) for _ in range(2))
    with contextlib.suppress(Exception):  # user code raises what it likes
        found: Any = made([{"params": [one]}, {"params": [other], "weight_decay": 0.0}])
        return "weight_decay" in found.param_groups[0]
    with contextlib.suppress(Exception):
        made([one, other])
        return False
    return True


def _described(optimizer: torch.optim.Optimizer) -> str:
    made, count = type(optimizer), len(optimizer.param_groups)
    return f"{made.__module__}.{made.__qualname__} with {count} parameter group{'s' * (count > 1)}"


def _as_name(optimizer: torch.optim.Optimizer, groups: tuple[Group, ...]) -> Recognised | None:
    """Name, settings and groups; None where there is no learning rate to edit, or more than they say."""
    made = _class_of(optimizer)
    settings = common_settings(optimizer) | _whole(optimizer)
    if "lr" not in optimizer.param_groups[0] or getattr(optimizer, "scheduled", ()) or _changed(optimizer):
        return None  # what a recipe cannot say stays code
    lr = float(settings.pop("lr"))
    reference, described = _reference_of_class(made), _described(optimizer)
    own = _own_name(made, lr, settings, groups)
    if own is None:
        return Recognised(reference, lr, settings, groups, described)
    return Recognised(own, lr, _mathematical(settings), tuple(
        replace(group, settings=_mathematical(group.settings)) for group in groups
    ), described)  # fmt: skip


def _changed(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it, or what is inside, has hooks, or methods in the place of its class's, as by schedulers."""
    own = vars(optimizer)
    hooks = any(own[name] for name in own if name.endswith("_hooks"))
    methods = any(callable(own[name]) and callable(getattr(type(optimizer), name, None)) for name in own)
    inside: Any = own.get("base_optimizer")
    return hooks or methods or (isinstance(inside, torch.optim.Optimizer) and _changed(inside))


def _whole(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What ours have for all their groups, where it is said."""
    inside: Any = getattr(optimizer, "base_optimizer", optimizer)
    if not isinstance(inside, Optimizer):
        return {}
    return {key: value for key in WHOLE if (value := getattr(inside, key)) is not None}


def _mathematical(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in IMPLEMENTATION}


def build(
    name: str, params: Iterable[Tensor] | Iterable[dict[str, Any]], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer that `name` and `settings` say, on `params`.

    Args:
        name: one of ours, a class ``"module:Class"``, or an importable factory ``"module:function"``.
        params: parameters or groups of them.
        settings: arguments by name, `lr` among them.

    Raises:
        UnknownNameError: no such name.
        RecipeError: a misspelt setting (the nearest is named), or one that the class refuses.
    """
    made = names.resolve("optimizer", name)
    if not callable(made):
        raise RecipeError(f"optimizer {name!r} is a {type(made).__name__}: must be a class or a factory")
    if not isinstance(cast("Any", settings), Mapping):
        raise RecipeError(
            f"settings={settings!r}: must be a table such as {{'lr': 0.1}}; {{}} takes the defaults"
        )
    allowed = _arguments(made)
    for setting in settings:
        if allowed is not None:
            check_name(setting, allowed, f"optimizer {name!r}")
    try:
        optimizer: Any = made(params, **settings)
    except DownslopeError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(f"optimizer {name!r} with {dict(settings)}: {_one_line(error)}") from error
    return _checked(optimizer, f"optimizer {name!r}")


def _called(factory: Factory, given: Any) -> torch.optim.Optimizer:
    try:
        optimizer: Any = factory(given)
    except DownslopeError:
        raise
    except Exception as error:
        kind = PositionError if about_positions(error) else RecipeError
        raise kind(
            f"the optimizer factory raised {type(error).__name__}: {_one_line(error)}; it is called with a "
            "list of parameters (with the model, or pairs of name and parameter, where its argument is named "
            "model or named_parameters) and must return a torch.optim.Optimizer"
        ) from error
    return _checked(optimizer, "the optimizer factory")


def _checked(optimizer: Any, what: str) -> torch.optim.Optimizer:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RecipeError(f"{what} gave a {type(optimizer).__name__}: it must give a torch.optim.Optimizer")
    return optimizer


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _class_of(optimizer: torch.optim.Optimizer) -> type[Any]:
    """Its class; of one around another, the class for both."""
    return getattr(optimizer, "named_class", type(optimizer))


def _reference_of_class(made: type[Any]) -> str | None:
    if (base := getattr(made, "around", None)) is not None:
        inside, outside = _reference_of_class(base), made.__mro__[1].__name__.lower()
        return None if inside is None else f"{outside}({inside})"
    own = next((n for n, r in names.TABLE["optimizer"].items() if r.partition(":")[2] == made.__name__), None)
    if own is not None and names.resolve("optimizer", own) is made:
        return own
    if issubclass(made, Optimizer):
        return None
    return f"torch.optim:{made.__name__}" if getattr(torch.optim, made.__name__, None) is made else None


def _own_name(
    made: type[Any], lr: float, settings: Mapping[str, Any], groups: tuple[Group, ...]
) -> str | None:
    """The name of our class that does exactly what `made` does with these settings, if there is one."""
    found = next(
        (n for n, r in names.TABLE["optimizer"].items() if r == f"downslope.optim:{made.__name__}"), None
    )
    if found is None:
        return None

    def kept(given: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in given.items() if k not in IMPLEMENTATION or k == "differentiable"}

    try:
        for own in [{}, *(kept(group.settings) for group in groups if group.train)]:
            build(found, [nn.Parameter(torch.zeros(1))], {"lr": lr} | kept(settings) | own)
    except RecipeError:
        return None
    return found


def _arguments(made: Any) -> list[str] | None:
    """Names of the settings that `made` takes, or None where it takes any."""
    try:
        parameters = list(inspect.signature(made).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    taken = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY)]
    base = made
    while hasattr(base, "around"):  # by a name such as "lookahead(adam)"
        base = base.around
    if base is not made and issubclass(base, Optimizer):
        taken += [name for name in OF_ALL if name not in taken]
    return taken[1:] if parameters and parameters[0].name in taken else taken


def _import_path(factory: Factory) -> str | None:
    module = cast("str | None", getattr(factory, "__module__", None))
    qualified = cast("str | None", getattr(factory, "__qualname__", None))
    if module is None or qualified is None or module == "__main__" or "<" in qualified:
        return None
    path = f"{module}:{qualified}"
    try:
        return path if names.load(path) is factory else None
    except DownslopeError:
        return None
