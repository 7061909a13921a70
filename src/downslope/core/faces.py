"""The face of a package: its names, loaded when they are first used, whichever of its modules came first.

Importing a module binds it in its package under its own name. Where a function is named as its module is, a
package that loads by ``__getattr__`` alone (PEP 562) would hand out the module from then on; a `Face` does
not let a module take the place of one of its names.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


def imported(module: str, *, for_good: bool = False) -> Any:
    """A module; what its import makes is there to stay, and is not looked through for garbage meanwhile.

    Freezing and unfreezing makes what is alive the oldest generation without a look at it. A look at all that
    torch has made takes as long as fifty steps of a small model, and came due in the middle of an import.

    Args:
        module: Its name.
        for_good: Leave what is alive frozen: the process then ends without taking all of it apart, in a third
            of a second less. Only for a process of our own, before anybody's code is loaded.
    """
    if module in sys.modules or not gc.isenabled() or gc.get_freeze_count():
        return importlib.import_module(module)
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        if not for_good:
            gc.unfreeze()
        gc.enable()


class Face(ModuleType):
    """A package whose names are loaded when they are first used; the second use costs nothing."""

    _homes: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._homes:
            from downslope.core.names import did_you_mean

            longer = [repr(each) for each in sorted(self._homes) if each.startswith(f"{name}_")]
            meant = f"; did you mean {' or '.join(longer)}?" if longer else did_you_mean(name, self._homes)
            raise AttributeError(f"{self.__name__} has no {name!r}{meant}")
        module, _, attribute = self._homes[name].partition(":")
        found = imported(module)
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


def lazily(package: str, modules: Mapping[str, str]) -> None:
    """Let a package load its names when they are first used.

    Args:
        package: Its ``__name__``; called from its own ``__init__``.
        modules: Each module, as the package calls it (``"ground.point"``), to its names, apart by spaces.
    """
    face(package, {name: f"{package}.{at}:{name}" for at, held in modules.items() for name in held.split()})


def face(package: str, homes: Mapping[str, str]) -> None:
    """Let a package load names from anywhere when they are first used.

    Args:
        package: Its ``__name__``; called from its own ``__init__``.
        homes: Name to ``"module:attribute"``; ``"module"`` alone stands for the module itself.
    """
    made = sys.modules[package]
    made.__dict__["_homes"] = homes
    made.__class__ = Face
