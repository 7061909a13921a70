"""How much memory there is, asked before anything large is read; and that there was none."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from downslope.core.errors import DataError

T = TypeVar("T")

SHARE = 0.8
"""Share of the memory that is free now which data may take; the rest is for the model and its steps."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available() -> float:
    """Bytes that can be taken without swapping: of the machine, and of the container; infinite if unknown."""
    return min(_of_machine(), *(_of_container(Path(most), Path(used)) for most, used in _CGROUPS))


def refuse_beyond(what: str, needed: float, instead: str) -> None:
    """Refuse before reading what would not fit into memory.

    Args:
        what: Name of the file or set, for the message.
        needed: Bytes that it takes in memory at most.
        instead: What to do.

    Raises:
        DataError: more than `SHARE` of what is free.
    """
    free = available()
    if needed > SHARE * free:
        raise DataError(
            f"{what}: would take {told(needed)} of memory and {told(free)} are free, of which data may take "
            f"{SHARE:.0%}; {instead}"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: CUDA's own class, Python's, or what torch's CPU allocator says."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def within_memory(ask: Callable[[], T], smaller: Callable[[], None]) -> T:
    """What `ask` gives; after each allocation that failed, asked again.

    Args:
        ask: Whatever needs memory.
        smaller: Makes it need less, and tells of it, or raises what says that there is no less.
    """
    while True:
        try:
            return ask()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        smaller()


def told(count: float) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _of_machine() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _of_container(most: Path, used: Path) -> float:
    try:
        return max(float(most.read_text("ascii")) - float(used.read_text("ascii")), 0.0)
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return math.inf
