"""Whether the untrained model mixes the examples of a batch, and what would keep them apart."""

from __future__ import annotations

from typing import Any

import torch

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.errors import ModelError
from downslope.core.fixed_sample import precision, sample
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.diagnosis.measure.company import ROWS, Given, mixing, most


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """What `mixing` tells of the model before its first step, on a batch of the recipe's size.

    Returns:
        The same, and ``whole``: whether every step takes all of the data.

    Raises:
        ModelError: why it cannot be told.
    """
    model = problem.build(recipe.seed, recipe.init)
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else ROWS
    known = problem.train_source.size
    rows = min(size, most(model), known or size)
    batch = sample(problem.train_source, 2 * rows, precision(model))
    count = batches.length(batch)
    rows = min(rows, count)
    given = _given(problem, batch, torch.arange(rows))
    other = _given(problem, batch, torch.arange(count - rows, count)) if count >= 2 * rows else None
    whole = recipe.batch_size == "full" or (known is not None and size >= known)
    return mixing(unwrap(model), given, other) | {"whole": whole}


def _given(problem: Problem, batch: Any, index: torch.Tensor) -> Given:
    args, kwargs, target = problem.splitter(batches.take(batch, index))
    sizes = [each.shape[:1] for each in (*batches.tensors((args, kwargs))[:1], *batches.tensors(target)[:1])]
    if not sizes or any(each != (len(index),) for each in sizes):
        raise ModelError("the examples do not lie along the first axis of inputs and targets")
    return Given(args, kwargs, len(index))
