"""What a batch size costs and what it buys: time and memory of a step, standard error of its gradient.

    stderr(B) = sqrt(tr(Sigma) / B * (N - B) / (N - 1))     B of N without replacement (Cochran 1977, 2.8)

The error falls with the root of the batch, time and memory grow in proportion once the machine is busy: data
is used best by small batches, the machine by large ones.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.asked import check_asked
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.terrain.noise import Noise, noise_scale
from downslope.training import choices
from downslope.training.optimizer import settled
from downslope.training.trial_step import TrialStep
from downslope.training.ways import exact

SIZES = (1, 2, 4, 8, 10, 16, 24, 32, 48, 64, 100, 128, 200, 256, 384, 512, 1000, 1024)
"""Batches that are looked at by default, as far as there is data: powers of two, and others beside them."""

ROUNDS = 5
"""Timed steps of each size, in turns."""

GRADIENTS = 24
"""Batches whose gradients are compared."""

WIDEST = 20_000_000
"""Numbers in the gradients that are compared beyond which fewer are."""


@dataclass(frozen=True)
class BatchRow:
    """One batch size."""

    size: int
    seconds: float
    """Of a step: forward, backward, clip, move; median of rounds in turns."""
    memory: int
    """Most bytes that tensors hold at once in a step."""
    stderr: float
    """Standard error of the gradient: root of the expected squared distance from that of all examples."""

    @property
    def each(self) -> float:
        """Seconds an example."""
        return self.seconds / self.size

    @property
    def power_of_two(self) -> bool:
        """Whether the size is one."""
        return self.size & (self.size - 1) == 0


@dataclass(frozen=True)
class BatchTable:
    """What `batch_table` found.

    Attributes:
        rows: In ascending order of size.
        noise: Moments of the gradient at the weights that were looked at; ``noise.scale`` is the batch at
            which noise and signal are equal.
        norm: Norm of the gradient, from the same moments; NaN where noise hides it.
        examples: Of the training data; None where it does not tell.
    """

    rows: tuple[BatchRow, ...]
    noise: Noise
    norm: float
    examples: int | None

    @property
    def cheapest(self) -> BatchRow:
        """The smallest size within 10 % of the least time an example: the machine gains nothing beyond."""
        least = min(row.each for row in self.rows)
        return next(row for row in self.rows if row.each <= 1.1 * least)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        rows = [
            {
                "size": row.size, "seconds": row.seconds, "seconds_each": row.each, "memory": row.memory,
                "stderr": row.stderr, "power_of_two": row.power_of_two,
            }
            for row in self.rows
        ]  # fmt: skip
        return {
            "rows": rows, "cheapest": self.cheapest.size, "noise_scale": self.noise.scale, "norm": self.norm,
            "examples": self.examples,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """The table as text."""
        head = f"{'batch':>6} {'ms a step':>10} {'us an example':>14} {'MB':>8} {'stderr':>9} {'of norm':>8}"
        made = [head]
        for row in self.rows:
            share = f"{row.stderr / self.norm:.2f}" if self.norm > 0 else "-"
            error = f"{row.stderr:.3g}" if math.isfinite(row.stderr) else "-"
            mark = "  2^k" if row.power_of_two else ""
            made.append(
                f"{row.size:>6} {1e3 * row.seconds:>10.3f} {1e6 * row.each:>14.1f} {row.memory / 1e6:>8.2f} "
                f"{error:>9} {share:>8}{mark}"
            )
        return made

    def __str__(self) -> str:
        return "\n".join(
            [*self.lines(), f"from {self.cheapest.size} on an example costs no less; {self._noise_said}"]
        )

    @property
    def _noise_said(self) -> str:
        """At which batch noise and signal are equal, or why that is not known."""
        if math.isfinite(self.noise.scale):
            return f"noise and signal of the gradient are equal at a batch of {self.noise.scale:.3g}"
        few = {None: "these rows are", 1: "1 row is"}.get(self.examples, f"{self.examples} rows are")
        return f"{few} too few to tell the gradient from its noise: more are needed"


def batch_table(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    sizes: Sequence[int] | None = None,
    rounds: int = ROUNDS,
    weights: dict[str, Tensor] | None = None,
) -> BatchTable:
    """Time, memory and error of the gradient for several batch sizes.

    Args:
        problem: Data in memory, or a Dataset.
        recipe: Optimizer and precision; its batch size does not matter. Adam if left out.
        sizes: Examples, each at least 1 and no more than there are; left out, powers of two and others up to
            1024.
        rounds: Timed steps of each size, at least 1.
        weights: Where the gradient is looked at: a state dict, such as ``run.state("last")``; left out, the
            start.

    Returns:
        The table.

    Raises:
        InputError: what `fit` raises, a DataLoader, or sizes that the data has not.
    """
    check_asked(problem, recipe)
    with exact():
        trial = TrialStep(problem, settled(problem, recipe or Recipe()))
        if weights is not None:
            trial.state.model.load_state_dict(weights)
        with choices.threads(trial.threads):
            return _table(trial, _checked(sizes, trial.size), rounds)


def _checked(sizes: Sequence[int] | None, most: int | None) -> list[int]:
    if sizes is None:
        return [each for each in SIZES if most is None or each <= most]
    found = sorted(set(sizes))
    for each in found:
        given: Any = each
        if isinstance(given, bool) or not isinstance(given, int) or given < 1 or given > (most or given):
            raise InputError(f"sizes holds {each!r}: must be integers in [1, {most or 'inf'}], the examples")
    if not found:
        raise InputError("sizes is empty: give batch sizes, such as [16, 64, 256]")
    return found


def _table(trial: TrialStep, sizes: list[int], rounds: int) -> BatchTable:
    noise, norm = _noise(trial)
    held = {size: trial.batch(size) for size in sizes}
    memory = {size: trial.memory(held[size]) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for size in sizes:
        trial.step(held[size])
    for _ in range(max(1, rounds)):
        for size in sizes:
            calls = max(1, min(50, int(0.003 / max(trial.seconds(held[size]), 1e-9))))
            times[size].append(sum(trial.seconds(held[size]) for _ in range(calls)) / calls)
    rows = [
        BatchRow(size, statistics.median(times[size]), memory[size], _error(noise.trace, size, trial.size))
        for size in sizes
    ]
    return BatchTable(tuple(rows), noise, norm, trial.size)


def _error(trace: float, size: int, examples: int | None) -> float:
    """Standard error of the mean gradient of `size` of `examples` without replacement."""
    left = 1.0 if examples is None or examples < 2 else (examples - size) / (examples - 1)
    return math.sqrt(max(trace, 0.0) / size * max(left, 0.0))


def _noise(trial: TrialStep) -> tuple[Noise, float]:
    """Moments of the gradient from batches of a size of which there are many, at the weights as they are."""
    nothing = Noise(math.nan, math.nan, math.nan, math.nan, math.nan)
    model = trial.state.model
    parameters = [p for p in model.parameters() if p.requires_grad]
    count = min(GRADIENTS, max(4, WIDEST // max(sum(p.numel() for p in parameters), 1)))
    part = max(1, min(16, (trial.size or 16 * count) // count))
    rows: list[Tensor] = []
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    seed = trial.state.recipe.seed
    for index, batch in enumerate(trial.train.epoch(part, seed, 0)):
        if index == count:
            break
        batch = batches.to(batch, trial.state.device, next(model.parameters()).dtype)
        if batches.length(batch) < part:
            continue
        with randomness.seeded(seed, "probe", index):
            value = trial.state.objective(model, batch).value
        grads = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        rows.append(torch.cat([g.detach().reshape(-1) for g in grads]))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    if len(rows) < 2:
        return nothing, math.nan
    found = noise_scale(torch.stack(rows), part)
    return found, math.sqrt(found.squared_norm) if found.squared_norm > 0 else math.nan
