"""Running a kernel on torch's threads.

Torch's own OpenMP runs it: one pool of threads on the cores, of the size that `torch.set_num_threads` set
last. Numba's pools are others: one aborts the process when two threads of Python call it, another resets
torch's count (numba#8563, #9387). Where torch's OpenMP is none that is known, a pool of Python's threads runs
the parts, as a kernel holds no lock of Python.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Kernel", "Words", "parts_for", "run", "team"]

Words = npt.NDArray[np.int64]

GRAIN = 1 << 16
"""Elements that are worth a thread of their own."""

PART, PARTS = 6, 7
"""Where `data` tells a kernel its part, if OpenMP does not."""


class Team:
    """Torch's OpenMP."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.parallel: Any = library.GOMP_parallel
        self.parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self.parallel.restype = None
        self.symbols = {
            name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
            for name in ("omp_get_thread_num", "omp_get_num_threads")
        }


@functools.cache
def team() -> Team | None:
    """Torch's OpenMP, or None where it is none with GNU's entry."""
    if sys.platform != "linux":
        return None
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    mapped = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    home = Path(torch.__file__).parent
    for path in sorted(mapped):
        name = Path(path).name
        if "omp" in name and (Path(path).is_relative_to(home) or Path(path).is_relative_to(f"{home}.libs")):
            try:
                return Team(ctypes.CDLL(path))
            except (OSError, AttributeError):
                continue
    return None


def parts_for(elements: int) -> int:
    """How many threads so many elements are worth, of those that torch may use now."""
    return max(1, min(torch.get_num_threads(), elements // GRAIN))


@dataclass(frozen=True)
class Kernel:
    """Machine code in memory, ready to run."""

    address: int
    function: Callable[[int], None]
    """The same, as Python calls it; without Python's lock."""
    engine: Any
    """LLVM's, which owns the memory."""


def run(kernel: Kernel, data: Words, parts: int) -> None:
    """Call a kernel with `data` on `parts` threads, or fewer where OpenMP gives fewer."""
    found = team()
    if found is not None and parts > 1:
        found.parallel(kernel.address, data.ctypes.data, parts, 0)
    elif found is not None or parts == 1:
        kernel.function(data.ctypes.data)  # data says that this is part 0 of 1
    else:
        copies = [data.copy() for _ in range(parts)]
        for part, copy in enumerate(copies):
            copy[PART], copy[PARTS] = part, parts
        list(_pool(parts).map(kernel.function, [copy.ctypes.data for copy in copies]))


@functools.lru_cache(maxsize=1)
def _pool(parts: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(parts, thread_name_prefix="downslope-kernel")
