"""How much of the output depends on early steps of a sequence: the Jacobian by lag, before the first step.

Seen are the recurrences of torch, its cells in a loop, and any module that is called step after step with
what it gave the step before: so people write recurrences of their own. A state may be handed on without its
graph (``hidden.detach()``), or a cell be given an empty one at every step: then nothing comes from earlier
ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import precision, sample
from downslope.core.modules import named_modules
from downslope.core.outputs import judged
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe

ROWS = 64
"""Sequences."""

SAME = 0.25
"""Share of the rows of a state that must be those of the step before. Convention: sessions end on the way."""

SHORTEST = 8
"""Steps of a sequence below which there are no long lags."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """Root mean square of the derivative of the output by the input of the recurrence, step by step.

    Returns:
        ``profile`` (one number a step, in the largest), ``ratio`` (its first eighth in its last eighth: below
        1 the past fades, above 1 it explodes), ``modules`` (names of the recurrent modules), ``steps``, and
        ``kept`` where a loop hands no gradient on: "values" (a state without its graph) or "nothing".
        None for a model without a recurrence, or shorter sequences.
    """
    model = problem.build(recipe.seed, recipe.init).eval()
    inner = unwrap(model)
    args, kwargs, _ = problem.splitter(sample(problem.train_source, ROWS, precision(model)))
    whole = [name for name, each in named_modules(inner) if isinstance(each, nn.RNNBase)]
    loops = {} if whole else _looped(inner, args, kwargs, recipe.seed)
    names = whole or list(loops)
    if not names:
        return None
    first = inner.get_submodule(names[0])
    seen: list[Tensor] = []

    def enter(module: nn.Module, given: tuple[Any, ...]) -> Any:
        del module
        if not given or not isinstance(given[0], Tensor) or (whole and seen):
            return None
        seen.append(torch.zeros_like(given[0], requires_grad=True))
        return (given[0] + seen[-1], *given[1:])

    output = _passed(inner, args, kwargs, recipe.seed, [first.register_forward_pre_hook(enter)])
    made = [each for each in judged(output) if each.is_floating_point()]
    if not made or not seen or (whole and seen[0].dim() != 3):
        return None
    noise = torch.randn(made[0].shape, generator=torch.Generator().manual_seed(0)).to(made[0])
    slopes = torch.autograd.grad((made[0] * noise).sum(), seen, allow_unused=True, materialize_grads=True)
    if whole:
        profile = slopes[0].double().square().mean((0, 2) if _batch_first(first) else (1, 2)).sqrt()
    else:
        profile = torch.stack([each.double().square().mean().sqrt() for each in slopes])
    found, handed = told(profile, names), loops.get(names[0], "graph")
    return found if found is None or handed == "graph" else found | {"kept": handed}


def told(profile: Tensor, names: list[str]) -> dict[str, Any] | None:
    """The fact ``lags`` of a profile by step; None for short sequences, or one of zeros."""
    steps = len(profile)
    if steps < SHORTEST or not float(profile.max()) > 0:
        return None
    eighth = max(1, steps // 8)
    ratio = float(profile[:eighth].max()) / max(float(profile[-eighth:].max()), 1e-300)
    shape = (profile / profile.max()).tolist()
    return {"profile": shape, "ratio": ratio, "modules": names, "steps": steps}


def _batch_first(module: nn.Module) -> bool:
    return bool(getattr(module, "batch_first", False))


def _passed(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int, handles: list[RemovableHandle]
) -> Any:
    """The output of one pass under hooks, which are gone after it."""
    try:
        with randomness.seeded(seed, "probe", 0):
            return model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()


def _looped(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int) -> dict[str, str]:
    """The modules with weights that are called step after step with what they gave the step before, and what
    of it they are given: "graph", "values", or of torch's own cells "nothing".

    A layer that serves every token by itself is called as often, but its inputs owe nothing to its outputs.
    """
    calls: dict[str, list[tuple[list[Tensor], list[Tensor]]]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            del module
            calls.setdefault(name, []).append((_floats(given), _floats(output)))

        return hook

    leaves = {
        name: each
        for name, each in named_modules(model)
        if any(True for _ in each.parameters()) and not any(True for _ in each.children())
    }
    hooks = [each.register_forward_hook(note(name)) for name, each in leaves.items()]
    _passed(model, args, kwargs, seed, hooks)
    often = {name: made for name, made in calls.items() if len(made) >= SHORTEST}
    found = {name: _handed(made, leaves[name]) for name, made in often.items()}
    # What comes first decides what is measured: a loop through which the gradient goes, where there is one.
    order = sorted((name for name in found if found[name]), key=lambda name: found[name] != "graph")
    return {name: found[name] for name in order}


def _handed(calls: list[tuple[list[Tensor], list[Tensor]]], module: nn.Module) -> str:
    """What a module is given in the middle of a pass of what it gave one call before; "" for none of it."""
    if _returns(calls):
        return "graph"
    middle = len(calls) // 2
    if any(_same(one, other) for one in calls[middle][0] for other in calls[middle - 1][1]):
        return "values"
    return "nothing" if isinstance(module, nn.RNNCellBase) else ""


def _same(given: Tensor, before: Tensor) -> bool:
    """Whether it is the same state, some of whose rows may have begun anew."""
    if given.shape != before.shape or given.requires_grad:
        return False
    rows = given.detach().flatten(1), before.detach().flatten(1)
    kept = (rows[0] == rows[1]).all(1) & (rows[1] != 0).any(1) if rows[0].numel() else torch.zeros(1)
    return bool(kept.double().mean() >= SAME)


def _floats(values: Any) -> list[Tensor]:
    return [each for each in batches.tensors(values) if each.is_floating_point()]


def _returns(calls: list[tuple[list[Tensor], list[Tensor]]]) -> bool:
    """Whether what a module is given in the middle of a pass came out of it one call before."""
    middle = len(calls) // 2
    given = [each for each in calls[middle][0] if each.requires_grad]
    before = [each for each in calls[middle - 1][1] if each.requires_grad]
    if not given or not before:
        return False
    total = torch.stack([each.sum() for each in given]).sum()
    found = torch.autograd.grad(total, before, retain_graph=True, allow_unused=True, materialize_grads=True)
    return any(bool(each.any()) for each in found)
