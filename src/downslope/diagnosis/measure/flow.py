"""Which parameters the gradient reaches, which the optimizer holds, and which of the others count at all."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from downslope.core import randomness
from downslope.core.adapted import unwrap
from downslope.core.edits import LetThrough
from downslope.core.errors import DownslopeError
from downslope.core.fixed_sample import precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import named_modules, own_parameters
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.optimizer import build_optimizer

ROWS = 64
"""Examples of the pass."""

NUDGE = 0.1
"""Size of a change to a module's parameters, in their root mean square, that a loss has to feel."""

NUDGES = 3
"""Changes that are tried of a module whose first ones are not felt."""

FELT = 1e-6
"""Relative change of the loss from which a module counts: ten times the rounding of float32."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """One backward pass of the untrained model, and a nudge to every module that it did not reach.

    Returns:
        ``parameters`` (how many there are), ``trained`` (how many a step changes), ``held``: one row for each
        module with parameters that no step changes although the loss depends on them, with ``name``,
        ``parameters`` and ``why``: "frozen" (``requires_grad=False``), "cut" (no gradient, or one of zero,
        comes back), or "left out" (the optimizer does not hold them). Those that are cut off have
        ``through``: whether one comes back without detach and no_grad.
    """
    model = problem.build(recipe.seed, recipe.init)
    batch = sample(problem.train_source, ROWS, precision(model))
    objective = Objective(problem)
    inner = unwrap(model)
    opened = {id(p) for p in inner.parameters() if p.requires_grad}
    # A factory that leaves parameters out has them frozen by the recipe's groups.
    optimised = {id(p) for group in build_optimizer(recipe, model).param_groups for p in group["params"]}
    with randomness.seeded(recipe.seed, "probe", 0):
        loss = objective(model, batch).value
    if loss.requires_grad:
        loss.backward()
    held: list[dict[str, Any]] = []
    trained = 0
    for name, module in named_modules(inner):
        own = own_parameters(module)
        if not own:
            continue
        why = _held(own, opened, optimised)
        count = sum(p.numel() for p in own)
        trained += 0 if why else count
        if why is not None:
            held.append({"name": name or "model", "parameters": count, "why": why})
    if any(each["why"] == "cut" for each in held):
        held = _elsewhere(problem, recipe, model, batch, held)
        held = _let_through(problem, recipe, batch, held)
        trained = _total(inner) - sum(each["parameters"] for each in held)
    before = float(loss.detach())
    counted = [each for each in held if _counts(problem, recipe, model, batch, each["name"], before)]
    return {"parameters": _total(inner), "trained": trained, "held": counted}


def _held(own: list[nn.Parameter], opened: set[int], optimised: set[int]) -> str | None:
    """Why no step changes these parameters; None where one does."""
    open_ = [p for p in own if id(p) in opened]
    if not open_:
        return "frozen"
    if not any(id(p) in optimised for p in open_):
        return "left out"
    return None if any(_moved(p) for p in open_) else "cut"


def _moved(p: nn.Parameter) -> bool:
    grad = p.grad
    return grad is not None and bool((grad.to_dense() if grad.is_sparse else grad).any())


def _total(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _elsewhere(
    problem: Problem, recipe: Recipe, model: nn.Module, batch: Any, held: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`held` without the modules whose gradient is zero at this start only, as where all weights are zero."""
    near = copy.deepcopy(model)
    for _, module in named_modules(unwrap(near)):
        _nudge(module)
    if not _backward(problem, recipe, near, batch):
        return held
    return [each for each in held if each["why"] != "cut" or not _reached(near, str(each["name"]))]


def _let_through(
    problem: Problem, recipe: Recipe, batch: Any, held: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`held`, where what is cut off says whether a gradient comes there once nothing is detached."""
    try:
        opened = LetThrough().apply_to_problem(problem)
        model = opened.build(recipe.seed, recipe.init)
        came = _backward(opened, recipe, model, batch)
    except (RuntimeError, TypeError, ValueError, DownslopeError):  # code that needs its detach (numpy)
        return [each | ({"through": False} if each["why"] == "cut" else {}) for each in held]
    return [
        each | ({"through": came and _reached(model, str(each["name"]))} if each["why"] == "cut" else {})
        for each in held
    ]


def _backward(problem: Problem, recipe: Recipe, model: nn.Module, batch: Any) -> bool:
    """The gradients of one batch; whether there are any."""
    model.zero_grad()
    with randomness.seeded(recipe.seed, "probe", 0):
        loss = Objective(problem)(model, batch).value
    if loss.requires_grad:
        loss.backward()
    return loss.requires_grad


def _reached(model: nn.Module, name: str) -> bool:
    """Whether the gradient came to the parameters that a module holds itself."""
    own = own_parameters(unwrap(model).get_submodule("" if name == "model" else name))
    return any(_moved(p) for p in own if p.requires_grad)


def _nudge(module: nn.Module, seed: int = 0) -> None:
    """Change the parameters that `module` holds by a tenth of their size, of 1 where they are small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in own_parameters(module):
            if p.is_floating_point():
                size = NUDGE * max(float(p.square().mean().sqrt()), 0.1)
                p.add_(size * torch.randn(p.shape, generator=generator).to(p))


def _counts(problem: Problem, recipe: Recipe, model: nn.Module, batch: Any, name: str, before: float) -> bool:
    """Whether the loss changes when the module's parameters do; one nudge may go along its level."""
    for seed in range(NUDGES):
        nudged = copy.deepcopy(model)
        _nudge(unwrap(nudged).get_submodule("" if name == "model" else name), seed)
        with torch.no_grad(), randomness.seeded(recipe.seed, "probe", 0):
            after = float(Objective(problem)(nudged, batch).value)
        if not abs(after - before) <= FELT * max(abs(before), 1e-12):
            return True
    return False
