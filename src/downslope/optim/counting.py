"""Whether a class of rules reads the step that it is told, so that parameters must count theirs."""

from __future__ import annotations

import dis
from typing import Any

__all__ = ["reads_step"]

METHODS = ("at", "advance", "settle")
"""Those that get the step, as their first argument."""


def reads_step(cls: type[Any], root: type[Any]) -> bool:
    """Whether a method of `METHODS`, which `cls` or what it mixes in defines, reads its first argument.

    What other heirs of `root` define is theirs to say. A method that is no plain function may read it.
    """
    for base in cls.__mro__:
        if base is cls or not issubclass(base, root):
            own = vars(base)
            if any(_reads(own[name]) for name in METHODS if name in own):
                return True
    return False


def _reads(method: Any) -> bool:
    code = getattr(method, "__code__", None)
    if code is None or code.co_argcount < 2:
        return True
    step = code.co_varnames[1]
    read = (each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD"))
    return any(name == step or (isinstance(name, tuple) and step in name) for name in read)
