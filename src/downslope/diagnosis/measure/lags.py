"""How much of the output depends on early steps of a sequence: the Jacobian by lag, before the first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.facts.sample import precision, sample

ROWS = 64
"""Sequences."""

SHORTEST = 8
"""Steps of a sequence below which there are no long lags."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """Root mean square of the derivative of the output by the input of the recurrence, step by step.

    Returns:
        ``profile`` (one number a step, in the largest), ``ratio`` (its first eighth in its last eighth: below
        1 the past fades, above 1 it explodes), ``modules`` (names of the recurrent modules), ``steps``; None
        for a model without a recurrent module, or shorter sequences.
    """
    model = problem.build(recipe.seed, recipe.init).eval()
    inner = unwrap(model)
    names = [name for name, each in named_modules(inner) if isinstance(each, nn.RNNBase)]
    if not names:
        return None
    args, kwargs, _ = problem.splitter(sample(problem.train_source, ROWS, precision(model)))
    seen: list[tuple[Tensor, bool]] = []
    first = inner.get_submodule(names[0])

    def enter(module: nn.Module, given: tuple[Any, ...]) -> Any:
        if seen or not isinstance(given[0], Tensor):
            return None
        x = given[0].detach().requires_grad_()
        seen.append((x, bool(getattr(module, "batch_first", False))))
        return (x, *given[1:])

    handle = first.register_forward_pre_hook(enter)
    try:
        with randomness.seeded(recipe.seed, "probe", 0):
            output: Any = inner(*args, **kwargs)
    finally:
        handle.remove()
    made = [each for each in batches.tensors(output) if each.is_floating_point()]
    if not made or not seen or seen[0][0].dim() != 3:
        return None
    x, batch_first = seen[0]
    noise = torch.randn(made[0].shape, generator=torch.Generator().manual_seed(0)).to(made[0])
    (slope,) = torch.autograd.grad((made[0] * noise).sum(), x, allow_unused=True, materialize_grads=True)
    profile = slope.double().square().mean((0, 2) if batch_first else (1, 2)).sqrt()
    steps = len(profile)
    if steps < SHORTEST or not float(profile.max()) > 0:
        return None
    eighth = max(1, steps // 8)
    ratio = float(profile[:eighth].max()) / max(float(profile[-eighth:].max()), 1e-300)
    shape = (profile / profile.max()).tolist()
    return {"profile": shape, "ratio": ratio, "modules": names, "steps": steps}
