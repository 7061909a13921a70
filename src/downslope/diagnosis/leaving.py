"""``os._exit`` in a watched script: the diagnosis is given before it, and nothing else changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from downslope.diagnosis.diagnosis import Diagnosis

Tell = Callable[[Diagnosis | None, int], int]
"""Tells a diagnosis, with the script's own status; gives the status to leave with."""


@contextmanager
def leaving(tell: Callable[[int], int]) -> Generator[None]:
    """A block in which ``os._exit`` of this process first calls `tell` with its status.

    No handler, no ``finally`` and no buffer of the script is touched, as without us. A forked worker, which
    ends by ``os._exit`` as well, just ends.

    Args:
        tell: Gives the status to leave with.
    """
    original, own = os._exit, os.getpid()  # pyright: ignore[reportPrivateUsage] (the name that scripts call)
    calls: list[int] = []

    def left(status: Any) -> Any:
        if isinstance(status, int) and os.getpid() == own and not calls:
            calls.append(status)
            try:
                status = tell(status)
            except BaseException:  # noqa: BLE001 (nothing of ours may keep a script from leaving)
                status = calls[0]
        original(status)

    left.__name__ = original.__name__
    setattr(os, "_exit", left)  # noqa: B010 (a name that the type checker keeps for itself)
    try:
        yield
    finally:
        if getattr(os, "_exit") is left:  # noqa: B009
            setattr(os, "_exit", original)  # noqa: B010
