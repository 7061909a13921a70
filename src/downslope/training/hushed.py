"""Trials of a diagnosis: what their steps would say was said of the run that they stand beside."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_hushed: ContextVar[bool] = ContextVar("steps_are_hushed", default=False)


@contextmanager
def hushed() -> Generator[None]:
    """A block in whose runs no step says anything, because the run that counts has said it."""
    token = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(token)


def are_hushed() -> bool:
    """Whether steps say nothing here."""
    return _hushed.get()
