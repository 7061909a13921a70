"""What an activation costs: its forward and backward pass, beside ReLU's in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from downslope.models.parts import activation_of

SIZE = 128 * 1024
"""Values a pass: 128 examples of 1024 units, which stay in the cache of most machines."""

ROUNDS = 9


def pass_of(name: str, z: Tensor, gradient: Tensor) -> Callable[[], None]:
    """One forward and backward pass on `z`, as a function."""
    module = activation_of(name)

    def act() -> None:
        leaf = z.detach().requires_grad_()
        module(leaf).backward(gradient)

    return act


def costs(names: Sequence[str]) -> dict[str, float]:
    """Times in multiples of ReLU's: the median over rounds, in which all take turns, so that a busy machine
    disturbs them alike. About a tenth of a second for the whole catalogue.

    Args:
        names: of the catalogue.
    """
    z, gradient = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(0))
    passes = {name: pass_of(name, z, gradient) for name in dict.fromkeys(["relu", *names])}
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(ROUNDS + 1):
        took: dict[str, float] = {}
        for name, act in passes.items():
            start = time.perf_counter()
            act()
            took[name] = time.perf_counter() - start
        if turn:  # the first one loads what it needs
            for name in names:
                found[name].append(took[name] / took["relu"])
    return {name: statistics.median(each) for name, each in found.items()}
