"""Whether several layers of weights make no more than one: the model is an affine function of its input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import sample
from downslope.core.modules import named_modules
from downslope.core.outputs import judged
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.measure.start import has_matrix, watched

ROWS = 32
"""Pairs of examples between which the model is looked at."""

EXACT = 1e-8
"""Distance from affine, in the output's deviation, below which a model is affine; float64 leaves 1e-13."""


def measure(run: Run, problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """The model in float64 and eval mode at two inputs and half way between them.

    Its weights are drawn anew: units that are dead, or all alike, bend nothing although they could. An
    activation at the very end is undone first: a softmax, sigmoid or their logarithms.

    Returns:
        ``bend`` (root mean square of ``f((a + b) / 2) - (f(a) + f(b)) / 2`` in the deviation of ``f``),
        ``layers`` (names of the modules with a matrix of weights, in forward order); None where the input is
        not one floating tensor, or the output not one.
    """
    model = problem.build(recipe.seed, recipe.init).double().eval()
    args, kwargs, _ = problem.splitter(sample(problem.train_source, 2 * ROWS, torch.float64))
    given = batches.tensors(args)
    if len(args) != 1 or kwargs or len(given) != 1 or not given[0].is_floating_point():
        return None
    x = given[0]
    count = len(x) // 2
    if count < 2:
        return None
    a, b = x[:count], x[count : 2 * count]
    inner = unwrap(model)
    _redraw(inner, recipe.seed)
    with torch.no_grad(), randomness.seeded(recipe.seed, "probe", 0), watched(inner) as layers:
        output: Any = inner(torch.cat([a, b, (a + b) / 2]))
    tensors = judged(output)
    if len(tensors) != 1 or not tensors[0].is_floating_point() or len(tensors[0]) != 3 * count:
        return None
    made = _undone(tensors[0], run.facts.get("output") or {})
    first, second, middle = made[:count], made[count : 2 * count], made[2 * count :]
    spread = torch.cat([first, second]).std(0).square().mean().sqrt()
    gap = (middle - (first + second) / 2).square().mean().sqrt()
    bend = float(gap) / max(float(spread), 1e-300)
    if not math.isfinite(bend):
        return None
    return {"bend": bend, "layers": [layer["name"] for layer in layers]}


def _redraw(model: nn.Module, seed: int) -> None:
    """Weights of deviation 1 / sqrt(fan in), biases 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, module in named_modules(model):
            weight = getattr(module, "weight", None)
            if has_matrix(module) and isinstance(weight, Tensor):
                noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
                weight.copy_(noise / math.sqrt(max(weight[0].numel(), 1)))
                for name, p in module.named_parameters(recurse=False):
                    if name == "bias":
                        p.zero_()


def _undone(output: Tensor, said: Mapping[str, Any]) -> Tensor:
    """The scores behind the last activation, up to what they have in common."""
    last = said.get("activation")
    if last in ("softmax", "log_softmax"):
        scores = output.log() if last == "softmax" else output
        return scores - scores.mean(1, keepdim=True)
    if last == "sigmoid":
        return output.logit()
    return output.expm1().neg().log().neg() + output if last == "log_sigmoid" else output
