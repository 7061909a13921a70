"""The largest batch that a run has room for, with a margin, proved by full steps where that is affordable.

Finders that double the batch until memory runs out answer with what just fitted once, without the state of
the optimizer, the evaluation or the copies of the best weights, and the run then fails (Lightning#20231); on
a CPU the operating system ends the process before any error can be caught. Here small batches are measured,
the need is a line in the batch size, and only what the line says is safe is tried.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.sources import SHUFFLE_LIMIT, Memory
from downslope.training import choices
from downslope.training.evaluate import BATCH
from downslope.training.optimizer import settled
from downslope.training.shown import shows
from downslope.training.trial_step import TrialStep
from downslope.training.ways import exact

MARGIN = 0.15
"""Share of the memory that is left free: workspaces of kernels, fragments, other programs. Convention."""

SMALL = (4, 8, 16)
"""Batches by which the need is foretold."""

OFF = 0.05
"""Share by which a proof may need more than was foretold before the line is drawn anew."""

PROOF_SECONDS = 20.0
"""Time that the proving step may take; beyond that a smaller batch is proved, and that is said."""


@dataclass(frozen=True)
class BatchLimit:
    """The largest batch with room to spare.

    Attributes:
        size: Examples; all of them where they fit at once.
        all_fit: Whether the data, and not the memory, is what limits it.
        need: Bytes that a run with this batch holds at its peak: steps, evaluation, copies of weights.
        available: Bytes that are free now.
        margin: Share of them that stays free.
        fixed: Bytes that do not depend on the batch.
        per_example: Bytes that each example adds.
        proved: The batch on which two full steps and an evaluation were run.
    """

    size: int
    all_fit: bool
    need: int
    available: int
    margin: float
    fixed: int
    per_example: int
    proved: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))

    def __str__(self) -> str:
        why = "all of the data" if self.all_fit else f"{self.margin:.0%} of the memory stays free"
        proof = "proved by full steps" if self.proved == self.size else f"proved up to {self.proved}"
        return (
            f"batches up to {self.size} ({why}; {proof}): {told(self.need)} of {told(self.available)}, "
            f"{told(self.fixed)} and {told(self.per_example)} for each example"
        )


def batch_limit(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    margin: float = MARGIN,
    memory: int | None = None,
) -> BatchLimit:
    """The largest batch size that a run of a problem and a recipe has room for.

    Args:
        problem: Data in memory, or a Dataset.
        recipe: Optimizer, precision, device, accumulation; its batch size does not matter. Adam if left out.
        margin: Share of the free memory that stays free, in [0, 1).
        memory: Bytes that there are; left out, what is free on the device now, within the process's limits.

    Returns:
        The size, what it needs, and on what batch that was proved.

    Raises:
        InputError: a margin outside its domain, a DataLoader, or a model for whose smallest batch there is no
            room.
    """
    check_asked(problem, recipe)
    if not 0 <= margin < 1:
        raise InputError(f"margin={margin!r}: must lie in [0, 1), it is the share of the memory left free")
    with exact():
        return _limit(problem, settled(problem, recipe or Recipe()), margin, memory)


def _limit(problem: Problem, recipe: Recipe, margin: float, memory: int | None) -> BatchLimit:
    trial = TrialStep(problem, recipe)
    with choices.threads(trial.threads):
        return _Search(trial, recipe, margin, memory).go()


class _Search:
    def __init__(self, trial: TrialStep, recipe: Recipe, margin: float, memory: int | None) -> None:
        self.trial, self.margin = trial, margin
        self.available = free_memory(trial.state.device) if memory is None else memory
        self.budget = int((1 - margin) * self.available)
        self.most = trial.size or 2**31
        weights = sum(t.numel() * t.element_size() for t in trial.state.model.state_dict().values())
        # The last and the best weights, and an average, or what the optimizer shows.
        copies = 2 + (recipe.average is not None or shows(trial.state.optimizer))
        self.beside = copies * weights
        if isinstance(trial.train, Memory):
            self.beside += min(trial.train.bytes, SHUFFLE_LIMIT)  # an epoch is shuffled into a copy
        self.points: list[tuple[int, int]] = []
        self.evaluation = 0

    def go(self) -> BatchLimit:
        """Measure small batches, follow the line, prove; draw the line anew where the proof needed more."""
        self._look()
        size = self._foretold()
        proved = 0
        for _ in range(6):
            proved = self._affordable(size)
            foretold = self._need(proved)
            try:
                used = self._proof(proved)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error) or proved <= 1:
                    raise
                self.most, size = proved // 2, max(1, proved // 2)
                continue
            if used <= (1 + OFF) * foretold:
                break
            self.points.append((proved, used))
            size = self._foretold()
        fixed, slope = _line(self.points)
        return BatchLimit(
            size=size,
            all_fit=self.trial.size is not None and size == self.trial.size,
            need=self._need(size),
            available=self.available,
            margin=self.margin,
            fixed=int(fixed),
            per_example=math.ceil(slope),
            proved=proved,
        )

    def _look(self) -> None:
        for small in SMALL:
            self.points.append((small, self._used(small)))
        looks = [(small, self.trial.look_memory(self.trial.batch(small))) for small in SMALL]
        fixed, slope = _line(looks)
        self.evaluation = math.ceil(fixed + slope * min(BATCH, self.most)) + self.beside
        least = self._need(1)
        if least > self.budget:
            raise InputError(
                f"one example needs {told(least)}, and {told(self.budget)} of {told(self.available)} may be "
                "used: take a smaller model, or a smaller margin"
            )

    def _used(self, size: int) -> int:
        return self.trial.memory(self.trial.batch(size)) + self.beside

    def _need(self, size: int) -> int:
        """Of a run with this batch: its steps or its evaluation, whichever takes more."""
        fixed, slope = _line(self.points)
        return max(math.ceil(fixed + slope * size), self.evaluation)

    def _foretold(self) -> int:
        fixed, slope = _line(self.points)
        return max(1, min(self.most, int((self.budget - fixed) / slope)))

    def _proof(self, size: int) -> int:
        """Two full steps, and an evaluation where there is room for its batches of `BATCH`."""
        used = self._used(size)
        if self.evaluation <= self.budget and self.trial.size is not None:
            looked = self.trial.look_memory(self.trial.batch(min(BATCH, self.trial.size, 4 * size)))
            used = max(used, looked + self.beside)
        return used

    def _affordable(self, size: int) -> int:
        """`size`, or as much of it as can be proved in the time."""
        begun = time.perf_counter()
        some = min(size, 4 * max(SMALL))
        self.trial.step(self.trial.batch(some))
        each = (time.perf_counter() - begun) / some
        return max(1, min(size, int(PROOF_SECONDS / max(3 * each, 1e-9))))


def _line(points: list[tuple[int, int]]) -> tuple[float, float]:
    """Intercept and slope: the steepest between neighbours, and above every point."""
    ordered = sorted(points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(ordered) if b[0] > a[0]]
    slope = max([*slopes, 1.0])
    return max(count - slope * size for size, count in ordered), slope


def free_memory(device: torch.device) -> int:
    """Bytes that are free on `device`; of a CPU what the system and the process's control group leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_from_meminfo(), _from_group()]
    known = [each for each in found if each is not None]
    if known:
        return min(known)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 2 * 2**30


def _from_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _from_group() -> int | None:
    """What a container's limit leaves (control groups, version 2 or 1)."""
    root = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int((root / most).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # "max" where there is no limit
            continue
    return None


def told(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
