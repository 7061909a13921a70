"""What the proofs share: which cases each asks for, and trajectories, run once for all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from torch import Tensor

from downslope.testing.rules.case import TOLERANCE, Array, Case, gradients, parameters, run

__all__ = ["Proofs", "backends", "needs", "peer_after", "recurrence_after", "stepped"]

Test = TypeVar("Test", bound=Callable[..., Any])


def needs(*fields: str) -> Callable[[Test], Test]:
    """Marks a test as one for cases only that fill these `fields`."""

    def mark(test: Test) -> Test:
        vars(test)["needs"] = fields
        return test

    return mark


def backends(*, never: Sequence[str] = (), in_float32: bool = False) -> Callable[[Test], Test]:
    """Marks a test that some backends are never asked for, or that runs in float32.

    A kernel is built for each chain and dtype, which takes longer than its tests. So those that are not
    `in_float32` ask for it with the first case of their class only.
    """

    def mark(test: Test) -> Test:
        vars(test)["never"], vars(test)["in_float32"] = never, in_float32
        return test

    return mark


def _asks(test: Any, case: Case, backend: str, dtype: torch.dtype | None, first: Case) -> bool:
    """Whether a test runs for a case on a backend; `dtype` is None where the test chooses it."""
    if backend in getattr(test, "never", ()):
        return False
    built = dtype == torch.float32 or (dtype is None and getattr(test, "in_float32", False))
    return backend != "kernel" or built or case is first


class Proofs:
    """Spreads tests over cases, and over what else they name: ``backend``, ``dtype``, an ``item`` of the
    first field that they need.
    """

    cases: ClassVar[tuple[Case, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Hides from pytest the tests that no case of the class fills the fields of."""
        for name in dir(cls) if cls.cases else ():
            asked: list[str] = list(getattr(getattr(cls, name), "needs", ()))
            if asked and not any(_fills(case, asked) for case in cls.cases):
                setattr(cls, name, None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Called by pytest for each test of the class."""
        names = metafunc.fixturenames
        if "first" in names:
            metafunc.parametrize("first", self.cases[:1], ids=[case.name for case in self.cases[:1]])
        if "case" not in names:
            return
        asked: list[str] = list(getattr(metafunc.function, "needs", ()))
        cases = [case for case in self.cases if _fills(case, asked)]
        dtypes: list[torch.dtype | None] = list(TOLERANCE) if "dtype" in names else [None]
        if "backend" in names:
            found = [
                (case, backend, dtype)
                for case in cases
                for backend in _backends(case)
                for dtype in dtypes
                if _asks(metafunc.function, case, backend, dtype, cases[0])
            ]
            ids = [", ".join([c.name, b, *([_short(d)] if d else [])]) for c, b, d in found]
            wanted = ("case", "backend", "dtype") if "dtype" in names else ("case", "backend")
            metafunc.parametrize(wanted, [row[: len(wanted)] for row in found], ids=ids)
        elif "item" in names:
            items = [(case, each) for case in cases for each in getattr(case, asked[0])]
            metafunc.parametrize(("case", "item"), items, ids=[f"{c.name}, {_told(i)}" for c, i in items])
        else:
            metafunc.parametrize("case", cases, ids=[case.name for case in cases])


def _fills(case: Case, fields: Sequence[str]) -> bool:
    return all(bool(getattr(case, each)) for each in fields)


@functools.cache
def _backends(case: Case) -> list[str]:
    return case.backends()


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _told(item: Any) -> str:
    return item if isinstance(item, str) else str(getattr(item, "function", item))


@functools.lru_cache(maxsize=256)
def stepped(case: Case, backend: str | None, dtype: torch.dtype) -> list[Tensor]:
    """The parameters after a hundred steps of the case on `backend`; not to be changed."""
    params = parameters(dtype, shapes=case.shapes)
    run(case.make(params, backend), gradients(dtype, shapes=case.shapes))
    return [p.detach() for p in params]


@functools.lru_cache(maxsize=64)
def peer_after(case: Case, dtype: torch.dtype) -> list[Tensor] | None:
    """The parameters after a hundred steps of the case's peer, if it has one."""
    if case.peer is None:
        return None
    params = parameters(dtype, shapes=case.shapes)
    run(case.peer(params), gradients(dtype, shapes=case.shapes))
    return [p.detach() for p in params]


@functools.lru_cache(maxsize=64)
def recurrence_after(case: Case, dtype: torch.dtype) -> list[Array] | None:
    """Where the case's recurrence ends after a hundred steps, in float64 from numbers rounded to `dtype`."""
    return case.expected(parameters(dtype, shapes=case.shapes), gradients(dtype, shapes=case.shapes))
