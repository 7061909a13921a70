"""From the settings of a parameter group to its chain, made once for settings of plain numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol, cast

from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import DOMAINS, Domains
from downslope.optim.options import GROUP_OPTIONS
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain

__all__ = ["Composes", "check_single", "composed"]


class Composes(Protocol):
    """A class of optimizers."""

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain | Routes:
        """The chain for one group's `settings`."""
        ...


def composed(cls: type[Composes], settings: Mapping[str, Any]) -> Chain | Routes:
    """``cls.compose(settings)``, made once for settings of plain numbers, of which a search makes many.

    Raises:
        RecipeError: as `Optimizer.compose`.
    """
    numbers = {name: value for name, value in settings.items() if name not in _BESIDE}
    key = tuple((name, isinstance(value, bool), value) for name, value in numbers.items())
    if all(_is_plain(value) for value in numbers.values()):
        return _known(cls, key)
    check_single(cls.__name__, {name: value for name, value in numbers.items() if _is_number(cls, name)})
    return cls.compose(settings)


def check_single(owner: str, settings: Mapping[str, Any]) -> None:
    """Refuses a tensor of several numbers where a setting is one number, as torch does of ``lr``.

    Args:
        owner: the class, for the message.
        settings: by name; tensors of one number may be among them.

    Raises:
        RecipeError: there is one, alone or in a tuple.
    """
    for name, value in settings.items():
        parts = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
        for part in parts:
            if isinstance(part, Tensor) and part.numel() != 1:
                raise RecipeError(
                    f"{name} is a tensor of shape {tuple(part.shape)}: {owner} takes one number for all "
                    "parameters of a group; give those that shall have another a group of their own, "
                    f'{{"params": [...], "{name}": ...}}'
                )


def _is_number(cls: type[Any], name: str) -> bool:
    own: Domains = getattr(cls, "domains", {})
    return own[name] is not None if name in own else name in DOMAINS


_BESIDE = ("params", "param_names", "name", *GROUP_OPTIONS)
"""What a group holds that is no setting."""


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind is float or kind is bool or (kind is tuple and all(type(each) is float for each in value))


@functools.lru_cache(maxsize=1024)
def _known(cls: type[Composes], key: tuple[tuple[str, bool, Any], ...]) -> Chain | Routes:
    return cls.compose({name: value for name, _, value in key})
