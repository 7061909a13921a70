"""The face of a package: its names, loaded when they are first used, whichever of its modules came first.

Importing a module binds it in its package under its own name. Where a function is named as its module is, a
package that loads by ``__getattr__`` alone (PEP 562) would hand out the module from then on; a `Face` does
not let a module take the place of one of its names.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class Face(ModuleType):
    """A package whose names are loaded when they are first used; the second use costs nothing."""

    _homes: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._homes:
            from downslope.core.names import did_you_mean

            raise AttributeError(f"{self.__name__} has no {name!r}{did_you_mean(name, self._homes)}")
        module, _, attribute = self._homes[name].partition(":")
        found: Any = importlib.import_module(module)
        if attribute:
            found = getattr(found, attribute)
        self.__dict__[name] = found
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        own = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if not own or ":" not in self._homes.get(name, ""):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*self.__dict__, *self._homes})


def lazily(package: str, homes: Mapping[str, str]) -> None:
    """Let a package load its names when they are first used.

    Args:
        package: Its ``__name__``; called from its own ``__init__``.
        homes: Name to ``"module:attribute"``; ``"module"`` alone stands for the module itself.
    """
    face = sys.modules[package]
    face.__dict__["_homes"] = homes
    face.__class__ = Face
