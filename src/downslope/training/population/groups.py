"""Which members train together: those whose models compute the same, but for their numbers."""

from __future__ import annotations

import types
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.loss import learnt
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory, Source
from downslope.objectives.penalised import Penalised
from downslope.training import ways
from downslope.training.methods import is_method
from downslope.training.population.joined import JoinedMeans
from downslope.training.population.losses import smoothing
from downslope.training.population.stack import tables
from downslope.training.population.strengths import kinds
from downslope.training.ready import Ready
from downslope.training.shown import looks_again
from downslope.training.stochastic import RANDOM_MODULES
from downslope.training.stopping import total_steps

MOST = 64
"""Members in one stack at most: beyond, the gain of a further one is within the noise."""

LARGEST = 10**10
"""Multiply-adds of a forward pass of all members of a stack at most: what it keeps is of that order."""

_OWN = frozenset(vars(nn.Module()))
"""What every module has; its parameters, buffers and children are looked at one by one."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def why_alone(made: Ready) -> str | None:
    """Why a member cannot train with others, in one line; None where nothing that shows forbids it."""
    state, recipe = made.state, made.state.recipe
    long = ways.worth(state, made.products, total_steps(recipe, made.train, made.batch_size))
    tensors = [*state.model.parameters(), *state.model.buffers()]
    reasons = {
        "its steps are observed": made.observe > 0,
        f"{recipe.optimizer} looks at a batch more than once": (
            looks_again(state.optimizer) or is_method(state.optimizer)
        ),
        f"accumulate={recipe.accumulate} takes a batch in parts": recipe.accumulate > 1,
        f"unfreeze={recipe.unfreeze} changes what is trained": recipe.unfreeze is not None,
        "more than its rate is on a schedule": bool(recipe.schedules),
        "its objective has parameters of its own": learnt(state.objective.function) is not None,
        "its objective combines gradients": hasattr(state.objective.function, "combine"),
        "its data are not held in memory": not isinstance(made.train, Memory),
        "bfloat16 rounds otherwise side by side": state.run.choices.get("precision") == "bfloat16",
        "it is long enough to look for the fastest way to compute it": long,
        "its model is too large to gain": 2 * made.products > LARGEST,
        "its parameters have several types": len({t.dtype for t in tensors if t.is_floating_point()}) > 1,
        "a recurrent layer keeps its weights in a list of its own": _has(state.model, nn.RNNBase),
        "it has complex parameters": any(t.is_complex() for t in tensors),
        "its gradients are sparse": any(getattr(m, "sparse", False) is True for m in state.model.modules()),
        "its modules have hooks": any(getattr(m, h) for m in state.model.modules() for h in _HOOKS),
    }
    return next((said for said, holds in reasons.items() if holds), None)


def _has(model: nn.Module, kind: type[nn.Module]) -> bool:
    return any(isinstance(each, kind) for each in model.modules())


def grouped(waiting: Mapping[int, tuple[Hashable, Ready]]) -> list[list[int]]:
    """Which of those that wait train together, by key, in stacks of a size that pays."""
    found: dict[Hashable, list[int]] = {}
    for index, (shape, _) in waiting.items():
        found.setdefault(shape, []).append(index)
    groups: list[list[int]] = []
    for each in found.values():
        most = max(1, min(MOST, LARGEST // max(waiting[each[0]][1].products, 1)))
        parts = -(-len(each) // most)
        size = -(-len(each) // parts)
        groups += [each[i : i + size] for i in range(0, len(each), size)]
    return groups


def key(run: Run, problem: Problem, model: nn.Module) -> Hashable:
    """What two members have in common that train together.

    Args:
        run: With its settled recipe, device and precision.
        problem: Of the member.
        model: As it was built.
    """
    recipe = run.recipe or Recipe()
    objective: Any = problem.objective
    if smoothing(problem) is not None:
        objective = ("cross-entropy", kinds(objective))
    elif isinstance(objective, Penalised) and JoinedMeans.runs(objective.objective):
        objective = (_same(objective.objective), kinds(objective))
    else:
        objective = _same(objective)
    held = tuple(repr(group) for group in recipe.groups if not group.train)
    return (
        data_key(problem)[:2], problem.maximize,
        objective,
        None if problem.split is None else id(problem.split),
        None if problem.augment is None else repr(problem.augment), held, recipe.frozen, recipe.layer_decay,
        recipe.unfreeze, recipe.batch_size, recipe.accumulate, run.choices.get("device"),
        run.choices.get("precision"), structure(model),
    )  # fmt: skip


def data_key(problem: Problem) -> tuple[Hashable, ...]:
    """Which data a problem is on, and how it reads them."""
    split = None if problem.split is None else id(problem.split)
    return _data(problem.train_source), _data(problem.valid_source), id(problem.objective), split


def _same(objective: Any) -> Hashable:
    """An objective as a key: by its value where it has one, else the object itself."""
    if isinstance(objective, nn.Module):
        return structure(objective), plain([*objective.buffers()])
    try:
        hash(objective)
    except TypeError:
        return id(objective)
    return objective


def _data(source: Source | None) -> Hashable:
    if not isinstance(source, Memory):
        return id(source)
    return tuple((t.data_ptr(), t.shape, t.stride(), t.dtype) for t in batches.tensors(source.batch))


def structure(model: nn.Module) -> Hashable:
    """All that a forward may hang on, but the numbers in a model's tensors and the rates of dropout."""
    places: dict[int, int] = {}
    rows: list[Hashable] = []
    named = cast("list[tuple[str, nn.Module]]", [*model.named_modules(remove_duplicate=False)])
    for name, module in named:
        parameters, buffers = tables(module)
        own = tuple(
            (each, places.setdefault(id(t), len(places)), t.shape, t.dtype, t.requires_grad, t.stride())
            for each, t in {**parameters, **buffers}.items()
            if t is not None
        )
        traits = {k: v for k, v in vars(module).items() if k not in _OWN}
        if isinstance(module, RANDOM_MODULES):
            traits.pop("p", None)
        rows.append((name, type(module), module.training, own, plain(traits)))
    return tuple(rows)


def plain(value: Any, deep: int = 4) -> Hashable:
    """A value as something to compare; what cannot be looked into is like itself alone."""
    if value is None or isinstance(value, (str, bytes, int, float, complex, type, torch.dtype, torch.device)):
        return value
    if isinstance(value, Tensor):
        numbers = cast("list[Any]", value.detach().cpu().flatten().tolist())
        return tuple(value.shape), value.dtype, repr(numbers)
    if deep:
        if isinstance(value, Mapping):
            items = cast("Mapping[Any, Any]", value).items()
            return tuple((plain(k, deep - 1), plain(v, deep - 1)) for k, v in items)
        if isinstance(value, (tuple, list)):
            return type(cast("Any", value)), tuple(plain(v, deep - 1) for v in cast("Sequence[Any]", value))
        if isinstance(value, types.FunctionType):
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return value.__code__, plain(cells, deep - 1), plain(value.__defaults__, deep - 1)
        if isinstance(value, nn.Module):
            return type(value)
    return id(value)
