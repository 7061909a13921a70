"""Code in a file of its own: ``my.py:MyOptimizer`` beside ``package.module:MyOptimizer``."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

OF_FILE = "downslope_task_"
"""Beginning of the names under which files of the user's are loaded as modules."""


def executed(path: Path) -> ModuleType:
    """The module in the file at `path`, executed now, with its folder on the search path.

    Raises:
        ImportError: no Python in there; else whatever the file raises.
    """
    name = f"{OF_FILE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def imported(path: Path) -> ModuleType:
    """The same, executed once: a class that is found twice is one class.

    Raises:
        ImportError: no such file, or one that cannot be executed.
    """
    if not path.is_file():
        raise ImportError(f"{path}: no such file")
    known = sys.modules.get(f"{OF_FILE}{path.stem}")
    held = getattr(known, "__file__", None)
    if known is not None and held is not None and Path(held).resolve() == path.resolve():
        return known
    try:
        return executed(path)
    except Exception as error:
        sys.modules.pop(f"{OF_FILE}{path.stem}", None)
        raise ImportError(f"{type(error).__name__}: {error}") from error
