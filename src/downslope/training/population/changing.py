"""What a member keeps in Python, beside its tensors, and whether a forward pass changes it.

A counter of calls, an average under a plain attribute, an anchor that is set at the first call: members side
by side go through one template, which has one of each. Such members train one by one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import pickle
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core.problem import Problem

DEEP = 6
"""Levels of containers and objects that are looked into."""

LONG = 1000
"""Entries of a container, or of a tensor, that are compared one by one; of longer ones whether they are the
same object, as long, and unwritten."""

MOST = 20_000
"""Values that are looked at in all; what comes after them is like itself alone."""

_OWN = frozenset(vars(nn.Module())) - {"training"}
"""What every module has; its tensors are the members' own, side by side too."""

_PLAIN = (type(None), str, bytes, int, torch.dtype, torch.device)

_STATE = ("__reduce__", "__reduce_ex__", "__getstate__")
"""What a class has of its own whose objects hold more than attributes, such as `random.Random`."""

Kept = dict[str, Any]
"""By name, something that equals itself as long as nothing changes."""


def kept(problem: Problem, model: nn.Module) -> Kept:
    """All that a member keeps in Python: its model, its objective, its augmentation.

    Args:
        problem: Of the member.
        model: Of the member.

    Returns:
        By name ("model.body.calls", "objective.calls"), what `changed` compares.
    """
    look = _Look()
    found = _traits(model, "model")
    for name in ("objective", "augment"):
        value = getattr(problem, name)
        if isinstance(value, nn.Module):
            found |= _traits(value, name)
        elif _has_attributes(value):
            found |= {f"{name}.{key}": each for key, each in vars(value).items()}
        else:
            found[name] = value
    return {name: look(value, DEEP) for name, value in found.items()}


def changed(before: Kept, after: Kept) -> str | None:
    """The first name under which something else is kept; None where all is what it was."""
    names = [*after, *(name for name in before if name not in after)]
    return next((n for n in names if n not in before or n not in after or before[n] != after[n]), None)


def counts_its_modes(model: nn.Module) -> str | None:
    """What going to eval mode and back changes, tried on a copy of a model with a ``train`` of its own."""
    if all(type(each).train is nn.Module.train for each in model.modules()):
        return None
    with contextlib.suppress(Exception):  # one that refuses to be copied is not laid beside others either
        twin, look = copy.deepcopy(model), _Look()
        before = {name: look(value, DEEP) for name, value in _traits(twin, "model").items()}
        twin.eval().train(model.training)
        look = _Look()
        return changed(before, {name: look(each, DEEP) for name, each in _traits(twin, "model").items()})
    return None


class Watched:
    """A member as it stands before its first batch is tried.

    Args:
        problem: Of the member.
        model: Of the member.
    """

    def __init__(self, problem: Problem, model: nn.Module) -> None:
        self.problem, self.model = problem, model
        self._before = kept(problem, model)

    def why_alone(self) -> str | None:
        """Why it cannot train with others, in one line, once its batch was tried; or None."""
        name = changed(self._before, kept(self.problem, self.model)) or counts_its_modes(self.model)
        return None if name is None else f"a forward pass changes {name}, of which members together share one"


class Beginnings:
    """The attributes of objectives and augmentations as they were handed over: each member starts there.

    `fit` alone would begin with them as well: an objective that counts its calls does not go on counting from
    one member to the next.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, dict[str, Any]]] = {}

    def back(self, problem: Problem) -> None:
        """Take `problem`'s own back to where they stood when they were first seen here."""
        for given in (problem.objective, problem.augment):
            for each in _objects(given, DEEP):
                held = _attributes(each)
                _, former = self._kept.setdefault(id(each), (each, {**held}))
                if held.keys() != former.keys() or any(held[key] is not former[key] for key in held):
                    held.clear()
                    held.update(former)


def _traits(model: nn.Module, root: str) -> dict[str, Any]:
    """What the modules of a model have beside what every module has."""
    named = cast("list[tuple[str, nn.Module]]", [*model.named_modules()])
    return {
        ".".join(part for part in (root, name, key) if part): value
        for name, module in named
        for key, value in vars(module).items()
        if key not in _OWN
    }


def _has_attributes(value: Any) -> bool:
    """Whether a value is an object with attributes that a call may change."""
    kinds = (type, types.ModuleType, types.FunctionType, types.MethodType, functools.partial)
    return hasattr(value, "__dict__") and not isinstance(value, kinds)


def _attributes(value: Any) -> dict[str, Any]:
    return vars(value)


def _is_its_attributes(value: Any) -> bool:
    """Whether an object is told by its attributes: no class of its own says otherwise."""
    kind: type[object] = value.__class__
    own = any(getattr(kind, name) is not getattr(object, name) for name in _STATE)
    return hasattr(value, "__dict__") and not own


def _objects(value: Any, deep: int) -> Iterator[Any]:
    """An object that is called, and those that it calls."""
    if not deep:
        return
    if isinstance(value, types.MethodType):
        value = value.__self__
    if isinstance(value, functools.partial):
        yield from _objects(cast("Any", value).func, deep - 1)
    if not _has_attributes(value) or isinstance(value, Tensor):
        return
    yield value
    inner: list[Any] = [*value.children()] if isinstance(value, nn.Module) else []
    for each in [*vars(value).values(), *inner]:
        if callable(each):
            yield from _objects(each, deep - 1)


class _Same:
    """Equal to the same object alone, which it keeps alive, and with the same number of what is in it."""

    def __init__(self, value: Any, number: int = 0) -> None:
        self.value, self.number = value, number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value and other.number == self.number

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class _Look:
    """``look(value, deep)``: a value as it stands now, what a call may change copied; each object once."""

    def __init__(self) -> None:
        self._seen = set[int]()
        self._left = MOST

    def __call__(self, value: Any, deep: int) -> Any:
        self._left -= 1
        if isinstance(value, (*_PLAIN, _Same)):
            return value
        if isinstance(value, (float, complex)):
            return repr(value)
        if isinstance(value, Tensor):
            return _tensor(value)
        if isinstance(value, np.ndarray):
            array = cast("np.ndarray[Any, Any]", value)
            return (array.shape, str(array.dtype), array.tobytes()) if array.size <= LONG else _Same(array)
        if not deep or self._left < 0 or id(value) in self._seen:
            return _Same(value)
        try:
            parts = _parts(value)
        except Exception:  # noqa: BLE001 (attributes of anybody's may fail when they are asked for)
            return _Same(value)
        if parts is None:
            return _opaque(value)
        if not isinstance(value, types.MethodType):  # made anew whenever it is asked for
            self._seen.add(id(value))
        if len(parts) > LONG:
            return _Same(value, len(parts))
        return [(self(key, deep - 1), self(each, deep - 1)) for key, each in parts]


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """What a container, a function or an object holds; None of what shows nothing."""
    if isinstance(value, (type, types.ModuleType)):
        return None
    if isinstance(value, (dict, types.MappingProxyType)):  # others may be files
        return list(cast("Mapping[Any, Any]", value).items())
    if isinstance(value, (list, tuple, deque)):
        return list(enumerate(cast("list[Any]", value)))
    if isinstance(value, (set, frozenset)):
        return [(None, each) for each in cast("set[Any]", value)]
    if isinstance(value, types.FunctionType):
        cells = [_cell(each) for each in value.__closure__ or ()]
        return [(_Same(value.__code__), cells), (None, value.__defaults__)]
    if isinstance(value, types.MethodType):
        return [(None, value.__self__), (None, value.__func__)]
    if isinstance(value, functools.partial):
        partial = cast("functools.partial[Any]", value)
        return [(None, partial.func), (None, partial.args), (None, partial.keywords)]
    if isinstance(value, nn.Module):
        return list(_traits(value, "").items())
    return list(_attributes(value).items()) if _is_its_attributes(value) else None


def _cell(cell: types.CellType) -> Any:
    with contextlib.suppress(ValueError):  # empty as yet
        return cell.cell_contents
    return None


def _tensor(value: Tensor) -> Any:
    try:
        if value.numel() <= LONG:
            return (
                str(value.dtype),
                tuple(value.shape),
                repr(cast("list[Any]", value.detach().cpu().flatten().tolist())),
            )
        return _Same(value, value._version)  # pyright: ignore[reportPrivateUsage] (torch has no other name)
    except Exception:  # noqa: BLE001 (tensors of other kinds)
        return _Same(value)


def _opaque(value: Any) -> Any:
    """What shows nothing: by what a pickle of it would hold, such as the state of a generator."""
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, (type, types.ModuleType)) or (callable(value) and not hasattr(value, "__slots__")):
        return _Same(value)
    try:
        return hashlib.sha256(pickle.dumps(value)).digest()
    except Exception:  # noqa: BLE001 (what cannot be pickled is like itself alone)
        return _Same(value)
