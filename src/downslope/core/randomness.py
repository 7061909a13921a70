"""One counter-based stream of randomness: every draw has an address, none depends on what came before.

A draw's seed is a hash of (seed, purpose, counters): the order of epoch 3, the dropout of module 2 in step
17. So a resumed run, a member of a population and a run alone draw the same numbers, and no generator state
has to be saved.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Words = npt.NDArray[np.uint64]

Purpose = Literal[
    "init", "order", "step", "module", "augment", "probe", "trial", "split", "objective", "pull"
]

_PURPOSES: dict[Purpose, int] = {
    "init": 1, "order": 2, "step": 3, "module": 4, "augment": 5, "probe": 6, "trial": 7, "split": 8,
    "objective": 9, "pull": 10,
}  # fmt: skip
_MASK = (1 << 64) - 1

ONE_AT_A_TIME = threading.RLock()
"""Threads of one process take turns wherever they use the global generators, which they share."""


def _scramble(word: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014, figure 16)."""
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def address(seed: int, purpose: Purpose, *counters: int) -> int:
    """A 63-bit seed for the draw at this address; neighbouring addresses give unrelated seeds."""
    word = _scramble((seed + 0x9E3779B97F4A7C15 * _PURPOSES[purpose]) & _MASK)
    for counter in counters:
        word = _scramble((word + 0x9E3779B97F4A7C15 * (counter + 1)) & _MASK)
    return word >> 1


def addresses(seed: int, purpose: Purpose, *counters: int | Words) -> Words:
    """`address` of many draws at once: counters may be arrays, from the second on."""
    word: Any = _scramble((seed + 0x9E3779B97F4A7C15 * _PURPOSES[purpose]) & _MASK)
    for counter in counters:
        word = _scramble((word + 0x9E3779B97F4A7C15 * (counter + 1)) & _MASK)
    return word >> 1


def generator(seed: int, purpose: Purpose, *counters: int) -> torch.Generator:
    """A CPU generator standing at this address."""
    return torch.Generator().manual_seed(address(seed, purpose, *counters))


def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of `n` examples in `epoch`: each once, without replacement; int64, shape (n,)."""
    return torch.randperm(n, generator=generator(seed, "order", epoch))


@contextmanager
def seeded(seed: int, purpose: Purpose, *counters: int) -> Generator[None]:
    """Run a block with the global generators at this address; their former state comes back after.

    They are torch's, Python's and numpy's: a dataset or a model factory may draw from any of them. Other
    threads wait.
    """
    with ONE_AT_A_TIME, _placed(address(seed, purpose, *counters)):
        yield


@functools.cache
def _accelerated() -> bool:
    """Whether there is a device with generators of its own."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _seed(place: int) -> None:
    """`torch.manual_seed`, without the millisecond that it takes to tell devices which are not there."""
    if _accelerated():
        torch.manual_seed(place)
    else:
        torch.default_generator.manual_seed(place)


@contextmanager
def _placed(place: int) -> Generator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what user code draws from)
    try:
        with torch.random.fork_rng(devices=devices):
            _seed(place)
            random.seed(place)
            np.random.seed(place & 0xFFFFFFFF)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
