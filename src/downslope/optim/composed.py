"""From the settings of a parameter group to its chain, made once for settings of plain numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

from downslope.optim.options import GROUP_OPTIONS
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain

__all__ = ["Composes", "composed"]


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
    return cls.compose(settings)


_BESIDE = ("params", "param_names", "name", *GROUP_OPTIONS)
"""What a group holds that is no setting."""


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind is float or kind is bool or (kind is tuple and all(type(each) is float for each in value))


@functools.lru_cache(maxsize=1024)
def _known(cls: type[Composes], key: tuple[tuple[str, bool, Any], ...]) -> Chain | Routes:
    return cls.compose({name: value for name, _, value in key})
