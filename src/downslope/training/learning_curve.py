"""The learning curve: the error against the number of training examples, and whether more would help."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.asked import check_asked
from downslope.core.errors import DataError, InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.samples import target_of
from downslope.core.sources import Memory
from downslope.training.bias_variance import kinds
from downslope.training.measures import measure_of
from downslope.training.population import fit_population
from downslope.training.power_law import PowerLaw, fit_power_law

Floats = npt.NDArray[np.float64]
Verdict = Literal["more data helps", "more data hardly helps", "cannot tell"]

FRACTIONS = (0.125, 0.25, 0.5, 1.0)
"""Shares of the training data: each twice the one before, so that the last step is what is asked about."""

MATERIAL = 0.05
"""Share of the present error that twice the data has to take away, to be called a help. Convention."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LearningCurve:
    """Errors of models trained on parts of the data.

    Attributes:
        measure: Name of what is measured, such as "error" (1 - accuracy); lower is better.
        sizes: Training examples, shape (k,), increasing.
        train: Error on the examples trained on, shape (k, seeds).
        valid: Error on the validation data, shape (k, seeds).
        valid_stderr: Standard error of a validation error, from the examples; NaN where it is not known.
        achievable: The error that the goal allows; None without a goal.
        runs: One for each size and seed, size by size.
        law: Through the validation errors; None where there is too little to fit one.
    """

    measure: str
    sizes: npt.NDArray[np.int64]
    train: Floats
    valid: Floats
    valid_stderr: float
    achievable: float | None
    runs: Sequence[Run] = field(repr=False)
    law: PowerLaw | None = field(repr=False)

    @property
    def verdict(self) -> Verdict:
        """Whether twice the data would take away `MATERIAL` of the present error, if that can be told."""
        if self.law is None:
            return "cannot tell"
        gain = self.law.gain(float(self.sizes[-1]))
        share = MATERIAL * float(self.valid[-1].mean())
        if gain.low > share:
            return "more data helps"
        return "more data hardly helps" if gain.high < share else "cannot tell"

    @property
    def said(self) -> str:
        """The verdict in one sentence, with what twice the data is expected to give."""
        now, n = float(self.valid[-1].mean()), int(self.sizes[-1])
        if self.law is None:
            return f"cannot tell: {len(self.sizes)} sizes by {self.valid.shape[1]} seeds fit no curve"
        then = self.law.at(2.0 * n)
        head = f"{self.verdict}: from {n} examples to {2 * n} the {self.measure} would go from {now:.3g} to"
        return f"{head} {then.value:.3g}, 95 % {then.low:.3g} to {then.high:.3g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a file or a machine."""
        law = self.law
        fitted = None
        if law is not None:
            n = float(self.sizes[-1])
            fitted = {
                "floor": law.floor, "scale": law.scale, "exponent": law.exponent,
                "twice": law.at(2 * n)._asdict(), "gain": law.gain(n)._asdict(),
            }  # fmt: skip
        return {
            "measure": self.measure, "sizes": self.sizes.tolist(), "train": self.train.tolist(),
            "valid": self.valid.tolist(), "valid_stderr": self.valid_stderr,
            "achievable": self.achievable, "law": fitted, "verdict": self.verdict,
        }  # fmt: skip

    def __str__(self) -> str:
        head = f"{'examples':>10}  {'train ' + self.measure:>20}  {'valid ' + self.measure:>20}"
        rows = [
            f"{n:>10}  {_told(train):>20}  {_told(valid):>20}"
            for n, train, valid in zip(self.sizes, self.train, self.valid, strict=True)
        ]
        return "\n".join([head, *rows, self.said])


def learning_curve(
    problem: Problem,
    recipe: Recipe | None = None,
    *,
    fractions: Sequence[float] = FRACTIONS,
    seeds: int | Sequence[int] = 3,
    folder: str | Path | Literal[False] | None = False,
    progress: bool = True,
    until: float | None = None,
) -> LearningCurve:
    """Train on parts of the training data, judge on all of the validation data, and fit a power law.

    Every seed draws parts of its own, each within the next larger one and with the classes in their shares.
    All runs take as many steps as the one on all of the data, so that small parts are not merely trained
    less; patience, counted in epochs, grows with the number of them. Edits that read the data
    (standardising) read the part.

    Args:
        problem: With validation data and training data in memory.
        recipe: As for `fit`; its seed is left out.
        fractions: Shares of the training data, each in (0, 1], at least two.
        seeds: How many, or which.
        folder: Parent of the runs' folders; None makes one, False keeps them in memory.
        progress: Whether to show how far it is.
        until: `time.monotonic` by which it ends; sizes that are not complete by then are left out.

    Returns:
        The curve; `LearningCurve.verdict` says whether more data would help.

    Raises:
        InputError: fractions or seeds outside their domain.
        DataError: no validation data, or training data that is not in memory.
    """
    check_asked(problem, recipe)
    recipe = recipe or Recipe()
    source, shares = _checked(problem, fractions)
    several: Any = seeds
    chosen: list[int] = list(range(several)) if isinstance(several, int) else list(several)
    if not chosen:
        raise InputError(f"seeds={seeds!r}: give at least one; three tell a spread")
    sizes = sorted({max(1, round(share * source.size)) for share in shares})
    steps = recipe.steps or source.steps(_batch(recipe, source)) * (recipe.epochs or 1)
    orders = {seed: order(problem, source, seed) for seed in chosen}
    members = [
        (_part(problem, source, orders[seed][:n]), _longer(recipe, source, n, steps).edit(seed=seed))
        for n in sizes
        for seed in chosen
    ]
    runs = fit_population(
        [each for each, _ in members], [each for _, each in members],
        folder=folder, progress=progress, label="learning curve", until=until,
        way="one by one",
    )  # fmt: skip
    return _curve(problem, sizes[: len(runs) // len(chosen)], len(chosen), runs)


def order(problem: Problem, source: Memory, seed: int) -> Tensor:
    """All training examples, of which every beginning has the classes in their shares; int64, shape (n,)."""
    drawn = torch.randperm(source.size, generator=randomness.generator(seed, "split"))
    labels = _labels(problem)
    if labels is None:
        return drawn
    shuffled = labels[drawn]
    place = torch.zeros(source.size, dtype=torch.float64)
    for label in kinds(shuffled):
        own = (shuffled == label).nonzero().flatten()
        place[own] = (torch.arange(len(own), dtype=torch.float64) + 0.5) / len(own)
    return drawn[place.argsort(stable=True)]


def _labels(problem: Problem) -> Tensor | None:
    """The class of every example, where the target is one."""
    try:
        target = target_of(problem)
    except (DataError, InputError, TypeError, AttributeError):
        return None
    flat = target.reshape(len(target), -1)
    right = not target.is_floating_point() and not target.is_complex() and flat.shape[1] == 1
    return flat[:, 0].cpu() if right and len(kinds(flat)) <= len(flat) // 2 else None


def _checked(problem: Problem, fractions: Sequence[float]) -> tuple[Memory, list[float]]:
    source = problem.train_source
    if problem.valid_source is None:
        raise DataError(
            "a learning curve is drawn on validation data, and this problem has none: give valid="
        )
    if not isinstance(source, Memory):
        raise DataError("a learning curve needs training data in memory, of which it can take parts")
    shares = [float(each) for each in fractions]
    if len(set(shares)) < 2 or not all(0 < each <= 1 for each in shares):
        raise InputError(f"fractions={list(fractions)}: needs two or more shares of the data, each in (0, 1]")
    return source, shares


def _batch(recipe: Recipe, source: Memory) -> int:
    return source.size if recipe.batch_size == "full" else min(recipe.batch_size, source.size)


def _part(problem: Problem, source: Memory, index: Tensor) -> Problem:
    """The problem on some of its examples, with its edits made anew."""
    part = Memory(batches.take(source.batch, index.to(source.device)))
    return replace(problem, train=part, edits=()).edit(*problem.edits)


def _longer(recipe: Recipe, source: Memory, n: int, steps: int) -> Recipe:
    """The recipe for `n` examples: as many steps as on all, and patience in the same number of them."""
    changes: dict[str, Any] = {"steps": steps, "epochs": None}
    if recipe.patience is not None and recipe.batch_size != "full":
        mine = math.ceil(n / min(recipe.batch_size, n))
        changes["patience"] = math.ceil(recipe.patience * source.steps(_batch(recipe, source)) / mine)
    return recipe.edit(**changes)


def _curve(problem: Problem, sizes: Sequence[int], count: int, runs: Sequence[Run]) -> LearningCurve:
    measure = measure_of(problem)
    kept = list(runs[: len(sizes) * count])
    if not kept:
        raise InputError("no size of the learning curve was complete in time: give it longer")
    train, valid = (
        np.asarray([measure.of_summary(run.summary, part) for run in kept]).reshape(len(sizes), count)
        for part in ("train", "valid")
    )
    points = [(n, e) for n, row in zip(sizes, valid, strict=True) for e in row if math.isfinite(e)]
    law = None
    if len({n for n, _ in points}) >= 3 and len(points) >= 5:
        law = fit_power_law([n for n, _ in points], [e for _, e in points])
    errors = [measure.error_of(run.summary, "valid") for run in kept[-count:]]
    return LearningCurve(
        measure=measure.name, sizes=np.asarray(sizes), train=train, valid=valid,
        valid_stderr=float(np.mean(errors)), achievable=measure.achievable, runs=kept, law=law,
    )  # fmt: skip


def _told(values: Floats) -> str:
    mean, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return f"{mean:.3g}" if math.isnan(spread) else f"{mean:.3g} +- {spread:.2g}"


__all__ = ["FRACTIONS", "LearningCurve", "learning_curve", "order"]
