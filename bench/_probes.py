"""What memory can do: additions that move as many bytes as a step has to, on buffers cut like its parameters.

    add_      a.add_(b): two reads and a write, the write where a read was
    out       torch.add(a, b, out=c): two reads, and a write to a third place

A step with state reads and writes in other proportions than either, so both are told. Buffers are cut like
the parameters, as one large addition would not pay for twenty calls.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

PROBES = ("add_", "out")


def probes(shapes: list[tuple[int, ...]], per_element: float) -> dict[str, Callable[[], object]]:
    """Both, moving `per_element` bytes for each element of `shapes`."""
    counts = [max(1, round(torch.Size(shape).numel() * per_element / 12.0)) for shape in shapes]
    a, b, c = ([torch.randn(count) for count in counts] for _ in range(3))

    def adding() -> None:
        for x, y in zip(a, b, strict=True):
            x.add_(y, alpha=1e-9)

    def writing() -> None:
        for x, y, z in zip(a, b, c, strict=True):
            torch.add(x, y, alpha=1e-9, out=z)

    return {"add_": adding, "out": writing}


class Others:
    """How many cores other processes have kept busy since this was made; 0 where that cannot be told."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), self._busy(), self._own()

    @staticmethod
    def _busy() -> float:
        try:
            first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        except OSError:
            return 0.0
        ticks = [float(each) for each in first]
        return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own() -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    def cores(self) -> float:
        wall, busy, own = self.start
        passed = time.perf_counter() - wall
        if not self._busy() or passed <= 0.0:
            return 0.0
        return max(0.0, (self._busy() - busy - (self._own() - own)) / passed)
