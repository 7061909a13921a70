"""What a misspelt argument was meant to be, read off the error that Python raised for it."""

from __future__ import annotations

import inspect
import re
import traceback
from typing import Any

from torch import nn

from downslope.core import names

UNEXPECTED = re.compile(r"^([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")


def meant(error: BaseException, called: Any = None) -> str:
    """``"; did you mean 'width'?"`` for a call with an argument that what was called has not; else "".

    Args:
        error: What the call raised.
        called: What was called, where that is known; a function of the same name is looked for among the
            models of the catalogue, the modules of torch and the names at the place of the call.
    """
    found = UNEXPECTED.match(str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return ""
    name, key = found[1].removesuffix(".__init__").rpartition(".")[2], found[2]
    for each in (called, *_places(error, name)):
        if getattr(each, "__name__", None) == name:
            taken = _taken(each)
            return names.did_you_mean(key, taken) if taken else ""
    return ""


def _places(error: BaseException, name: str) -> list[Any]:
    found: list[Any] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found += [place[name] for place in (frame.f_locals, frame.f_globals) if name in place]
    if name in names.TABLE["model"]:
        found.append(names.resolve("model", name))
    return [*reversed(found), getattr(nn, name, None)]


def _taken(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
