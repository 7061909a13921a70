"""What an optimizer factory makes, as a name and settings, so that it can be edited and written to a file;
and back.

`recognise` calls the factory once, on throw-away parameters. `build` makes an optimizer from name and
settings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import DownslopeError, RecipeError
from downslope.optim.domains import check_name
from downslope.optim.driver import Optimizer
from downslope.optim.implementation import IMPLEMENTATION

__all__ = ["Recognised", "build", "recognise"]

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Recognised:
    """What `recognise` found out."""

    name: str | None
    """Ours (``"adam"``), a class (``"torch.optim:NAdam"``), the factory's import path, or None: only code."""
    lr: float | None = None
    """The learning rate, or None where `build` must not be given one."""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """Further arguments of the class that differ from its defaults."""
    description: str = ""
    """What it is, in words, for a message."""

    @property
    def editable(self) -> bool:
        """Whether the learning rate and the settings can be changed by name."""
        return self.lr is not None


def recognise(factory: Factory) -> Recognised:
    """What `factory` makes of parameters.

    The factory is called once with a list of throw-away parameters of several shapes. One group made by a
    class of torch.optim or of ours gives the class and the settings that differ from its defaults; torch's
    classes get our name where ours does exactly the same. Anything else is described, and kept by its import
    path if it has one.

    Args:
        factory: ``params -> torch.optim.Optimizer``, a class too.

    Raises:
        RecipeError: the factory raises, or returns no optimizer.
    """
    optimizer = _called(factory)
    made = type(optimizer)
    reference = _reference_of_class(made)
    groups = optimizer.param_groups
    described = (
        f"{made.__module__}.{made.__qualname__} with {len(groups)} parameter group{'s' * (len(groups) > 1)}"
    )
    if reference is None or len(groups) > 1 or "lr" not in groups[0]:
        return Recognised(_import_path(factory), description=described)
    lr, settings = _settings_of(made, groups[0])
    own = _own_name(made, lr, settings)
    if own is not None:
        return Recognised(own, lr, {k: v for k, v in settings.items() if k not in IMPLEMENTATION}, described)
    return Recognised(reference, lr, settings, described)


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


def _called(factory: Factory) -> torch.optim.Optimizer:
    shapes = {"weight": (4, 3), "bias": (4,), "kernel": (2, 3, 3, 3), "norm": (4,), "scale": ()}
    params = [nn.Parameter(torch.zeros(shape)) for shape in shapes.values()]
    try:
        optimizer: Any = factory(params)
    except DownslopeError:
        raise
    except Exception as error:
        raise RecipeError(
            f"the optimizer factory raised {type(error).__name__}: {_one_line(error)}; it is called "
            "with a list of "
            "parameters and must return a torch.optim.Optimizer"
        ) from error
    return _checked(optimizer, "the optimizer factory")


def _checked(optimizer: Any, what: str) -> torch.optim.Optimizer:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise RecipeError(f"{what} gave a {type(optimizer).__name__}: it must give a torch.optim.Optimizer")
    return optimizer


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reference_of_class(made: type[Any]) -> str | None:
    own = next(
        (n for n, r in names.TABLE["optimizer"].items() if r == f"downslope.optim:{made.__name__}"), None
    )
    if issubclass(made, Optimizer):
        return own if own is not None and names.resolve("optimizer", own) is made else None
    return f"torch.optim:{made.__name__}" if getattr(torch.optim, made.__name__, None) is made else None


def _settings_of(made: type[Any], group: Mapping[str, Any]) -> tuple[float, dict[str, Any]]:
    settings: dict[str, Any] = {}
    for name, parameter in inspect.signature(made).parameters.items():
        if name in group and name not in {"params", "lr"}:
            value = group[name]
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.item()
            if value != parameter.default:
                settings[name] = value
    return float(group["lr"]), settings


def _own_name(made: type[Any], lr: float, settings: Mapping[str, Any]) -> str | None:
    """The name of our class that does exactly what `made` does with these settings, if there is one."""
    found = next(
        (n for n, r in names.TABLE["optimizer"].items() if r.partition(":")[2] == made.__name__), None
    )
    if found is None:
        return None
    mathematical = {k: v for k, v in settings.items() if k not in IMPLEMENTATION or k == "differentiable"}
    try:
        build(found, [nn.Parameter(torch.zeros(1))], {"lr": lr, **mathematical})
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
