"""What share of its units a model drops in training: by modules, and by functions that its forward calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from downslope.core import randomness
from downslope.core.adapted import unwrap
from downslope.core.edits.dropout import Shares
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe

ROWS = 4
"""Examples that are passed: as few as a batch norm in training mode takes with a margin."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """One pass of an untrained model in training mode.

    Returns:
        ``modules`` (names and shares of modules that drop), ``called`` (the largest share that a function
        drops which stands in no such module; 0 for none). What drops in eval mode too is another fault
        (`mode-gap`) and does not count.
    """
    model = problem.build(recipe.seed).train()
    named = named_modules(unwrap(model))
    modules = [(n, float(each.p)) for n, each in named if isinstance(each, nn.modules.dropout._DropoutNd)]  # pyright: ignore[reportPrivateUsage]
    batch = sample(problem.train_source, ROWS, precision(model))
    objective = Objective(problem)

    def called() -> list[float]:
        with torch.no_grad(), randomness.seeded(recipe.seed, "probe", 5), Shares() as seen:
            objective.raw(model, batch)
        return seen.found

    known = {p for _, p in modules}
    trained = called()
    model.eval()
    known |= set(called())
    return {"modules": modules, "called": max((p for p in trained if p not in known), default=0.0)}
