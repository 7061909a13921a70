"""The last model in training mode and in eval mode, on the same examples."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.core.outputs import judged
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory

STILL = 1e-2
"""Difference of running statistics from mean 0 and variance 1 up to which they have not left them."""

NOISY = 1e-2
"""Difference of two outputs in eval mode, in their deviation, from which the model draws at random there."""

_DROPOUTS = ("dropout", "alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d")

ROWS = 1024
"""Examples at most, in batches as training takes them."""


def measure(run: Run, problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """Mean loss over batches of the recipe's size, in the user's units.

    Returns:
        ``train`` (training mode: statistics of the batch, dropout), ``eval`` (running statistics), ``drawn``
        (difference of two outputs in eval mode, in their deviation), ``norms`` (names of the modules with
        running statistics), ``still`` (those whose statistics are where torch begins), ``dropouts`` (names
        and shares of dropout modules), ``batch`` (its examples); where eval mode draws, ``quiet`` (its loss
        with every dropout silenced).
    """
    model = copy.deepcopy(run.model("last"))
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else ROWS
    batch = sample(problem.train_source, ROWS, precision(model))
    objective = Objective(problem)
    parts = list(Memory(batch).stored(max(size, 2)))
    kept = [each for each in parts if batches.length(each) == batches.length(parts[0])]
    inner = unwrap(model)
    named = named_modules(inner)
    norms = [(name, each) for name, each in named if getattr(each, "running_var", None) is not None]
    drops = [(n, float(each.p)) for n, each in named if isinstance(each, nn.modules.dropout._DropoutNd)]  # pyright: ignore[reportPrivateUsage]

    def mean(training: bool, salt: int) -> float:
        model.train(training)
        with torch.no_grad(), randomness.seeded(recipe.seed, "probe", salt):
            values = [objective.sign * float(objective.raw(model, each).value) for each in kept]
        return sum(values) / len(values)

    drawn, quiet = _drawn(model.eval(), objective, kept[0], recipe.seed), None
    if drawn > NOISY:
        with silenced():
            quiet = mean(training=False, salt=1)
    return {
        "eval": mean(training=False, salt=1), "train": mean(training=True, salt=2),
        "norms": [name for name, _ in norms], "still": still(norms), "dropouts": drops, "batch": size,
        "drawn": drawn, "quiet": quiet,
    }  # fmt: skip


@contextmanager
def silenced() -> Generator[None]:
    """A block in which no dropout drops anything, whatever the mode; as functions and as modules."""
    kept = {name: getattr(functional, name) for name in _DROPOUTS}

    def whole(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        del args, kwargs
        return values

    try:
        for name in kept:
            setattr(functional, name, whole)
        yield
    finally:
        for name, own in kept.items():
            setattr(functional, name, own)


def still(norms: Sequence[tuple[str, Any]]) -> list[str]:
    """Names of the norm layers whose running statistics are still those that torch begins with.

    Of a variance of 1 a hundredth may be gone, as of a mean of 0: a momentum of 1e-5 in 1000 steps.
    """
    found: list[str] = []
    for name, each in norms:
        mean, var = each.running_mean, each.running_var
        if mean is None or var is None or mean.is_meta:
            continue
        if float(mean.abs().max()) <= STILL and float((var - 1).abs().max()) <= STILL:
            found.append(name)
    return found


def _drawn(model: nn.Module, objective: Objective, batch: Any, seed: int) -> float:
    """Difference of two outputs in eval mode, root mean square, in the deviation of the output."""
    seen: list[torch.Tensor] = []
    for salt in (3, 4):
        with torch.no_grad(), randomness.seeded(seed, "probe", salt):
            leaves = judged(objective.raw(model, batch).output)
        seen += [leaf.double() for leaf in leaves if leaf.is_floating_point()][:1]
    if len(seen) < 2:
        return 0.0
    return float((seen[0] - seen[1]).square().mean().sqrt() / seen[0].std().clamp_min(1e-300))
