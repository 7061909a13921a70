"""What stands before the first step: model, optimizer and data on the device, the first batch tried."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn

from downslope.core import batches
from downslope.core.errors import DataError, DownslopeError, ModelError, told
from downslope.core.loss import Loss, Objective, check_trainable
from downslope.core.problem import Problem
from downslope.core.recipe import Lost, Recipe
from downslope.core.run import Run
from downslope.core.sources import Away, Loader, Memory, Source
from downslope.training import choices
from downslope.training.accumulate import cut
from downslope.training.augmenting import Augmenter, augmenter
from downslope.training.beside import train_beside
from downslope.training.depth import depths_of
from downslope.training.evaluate import check_ending
from downslope.training.facts.at_start import Nodes, nodes
from downslope.training.hints import hint
from downslope.training.last_batch import batch_size_for
from downslope.training.methods import check_method
from downslope.training.optimizer import build_optimizer
from downslope.training.probes import Observer
from downslope.training.shown import check_shown
from downslope.training.state import StepState

_log = logging.getLogger("downslope")


def built(run: Run, problem: Problem, recipe: Recipe, *, resumed: bool = False) -> nn.Module:
    """The model of a run on its device and in its precision; ``run.recipe`` is the recipe settled on it.

    Weights that the problem starts from are not read for a run that is `resumed` from a state of its own.
    """
    device = choices.choose_device(recipe)
    init = None if resumed and isinstance(recipe.init, Lost) else recipe.init
    model = problem.build(recipe.seed, init, weights=not resumed)
    if problem.weights is not None and not resumed:
        run.facts["weights"] = problem.weights.compare(model).to_dict()
    model = model.to(device)
    precision = run.choices.get("precision") or choices.choose_precision(recipe, model)
    if precision == "float64":
        model = model.double()
    elif recipe.precision == "float32":
        model = model.float()
    run.recipe = recipe.settled(model)  # groups that hang on the model become data
    run.choices |= {"device": str(device), "precision": precision}
    return model


def further(run: Run, problem: Problem, like: StepState, model: nn.Module) -> StepState | None:
    """A further member of the group that `like` was prepared for: nothing is tried a second time.

    Args:
        run: Of the member; gets the choices that its group has in common.
        problem: Of the member, on the data of `like`.
        like: As `prepare` left it, before its first step. The recipes of both differ in numbers only.
        model: As `built` made it for `run`, with the parameters and buffers of that of `like`.

    Returns:
        The member's state, without a batch; or None where its rates go by depth: it stands alone then.
    """
    if like.depths:  # units hold the parameters of their own model
        return None
    recipe = run.recipe or like.recipe
    shared = ("batch_size", "own_batch")
    run.choices |= {key: like.run.choices[key] for key in shared if key in like.run.choices}
    optimizer = build_optimizer(recipe, model)
    check_method(recipe, problem, optimizer)
    check_shown(recipe, problem, optimizer)
    if (plan := getattr(optimizer, "plan", None)) is not None:
        known = like.run.choices.get("optimizer") if _planned_alike(optimizer, like.optimizer) else None
        run.choices["optimizer"] = known or str(plan())
    objective = Objective(problem)
    train_beside(objective, model, optimizer)
    state = StepState(
        run=run, problem=problem, recipe=recipe, model=model, optimizer=optimizer,
        objective=objective, device=like.device,
    )  # fmt: skip
    if isinstance(like.augment, Augmenter):
        state.augment = like.augment.seeded(recipe.seed)
    return state


def _planned_alike(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> bool:
    """Whether two optimizers differ in numbers only, none of which is zero in one of them alone."""

    def traits(optimizer: torch.optim.Optimizer) -> list[Any]:
        return [
            [len(group["params"]), *(repr(v) if isinstance(v, bool) else bool(v) for v in group.values())]
            for group in optimizer.param_groups
        ]

    return type(one) is type(other) and traits(one) == traits(other)


def prepare(
    run: Run,
    problem: Problem,
    recipe: Recipe,
    *,
    resumed: bool = False,
    model: nn.Module | None = None,
) -> tuple[StepState, Source, Source | None, int, Observer, tuple[Loss, Nodes]]:
    """Model, optimizer and data on the device; the first batch tried before anything is written.

    Args:
        run: Gets the choices that are made.
        problem: What.
        recipe: How.
        resumed: Whether the run goes on from a state of its own.
        model: As `built` made it for `run`; made here if left out.
    """
    if model is None:
        model = built(run, problem, recipe, resumed=resumed)
    recipe = run.recipe or recipe
    device = torch.device(run.choices["device"])
    depths = depths_of(problem, recipe, model)
    optimizer = build_optimizer(recipe, model, depths)
    check_method(recipe, problem, optimizer)
    check_shown(recipe, problem, optimizer)
    plan = getattr(optimizer, "plan", None)
    dtype = next(model.parameters()).dtype
    train = _on_device(problem.train_source, device, dtype)
    valid = None if problem.valid_source is None else _on_device(problem.valid_source, device, dtype)
    batch_size = _batch_size(recipe, train)
    run.choices["batch_size"] = batch_size
    if recipe.accumulate > batch_size:
        _log.warning(
            "accumulate=%d: a batch of %d goes through in %d parts, one for each example",
            recipe.accumulate, batch_size, batch_size,
        )  # fmt: skip
    if isinstance(train, Loader):
        run.choices["own_batch"] = train.batch_size or "of the DataLoader's sampler"
    observer = Observer(model)
    objective = Objective(problem)
    train_beside(objective, model, optimizer)
    state = StepState(
        run=run, problem=problem, recipe=recipe, model=model, optimizer=optimizer,
        objective=objective, device=device, depths=depths,
    )  # fmt: skip
    state.batch = cut(_first_batch(state, train, batch_size, dtype), recipe.accumulate)[0]
    first = _try(state, observer)
    batch_size = run.choices["batch_size"] = batch_size_for(state, train, batch_size)
    state.augment = augmenter(state, first[0])
    if valid is None:  # else a first evaluation tells
        check_ending(problem, model, state.batch, train)
    if plan is not None:
        run.choices["optimizer"] = str(plan())
    return state, train, valid, batch_size, observer, first


def _first_batch(state: StepState, train: Source, batch_size: int, dtype: torch.dtype) -> Any:
    try:
        batch = next(iter(train.epoch(batch_size, state.recipe.seed, 0)))
    except StopIteration:
        once = ", or it was read already: __iter__ must begin anew each time" if train.size is None else ""
        raise DataError(f"the training data gave no batch: it is empty{once}") from None
    return batches.to(batch, state.device, dtype)


def _try(state: StepState, observer: Observer) -> tuple[Loss, Nodes]:
    """One forward pass that leaves no trace: shapes, the objective's scalar, and what modules there are."""
    model = state.model
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]), observer.forward(), nodes(model) as seen:
            loss = state.objective(model, state.batch)
    except DownslopeError:
        raise
    except Exception as error:
        raise _unusable(state, error) from error
    observer.survey()
    check_trainable(model, loss)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    return loss, seen


def _unusable(state: StepState, error: Exception) -> ModelError:
    """One line for what model or objective raised on a batch."""
    shapes = [tuple(each.shape) for each in batches.tensors(state.batch)]
    return ModelError(
        f"a batch of shapes {shapes} cannot be put through model and objective {state.objective.label}: "
        f"{told(error)}{hint(error, state.problem, state.batch)}"
    )


def probe_price(state: StepState, observer: Observer, batch_size: int) -> float:
    """The cost of a probed step in plain steps: measured on a copy of the model, once for its signature."""
    shapes = [tuple(each.shape) for each in batches.tensors(state.batch)]
    key = "probe/" + choices.signature(state.model, shapes, batch_size, str(state.device))

    def measure() -> float:
        try:
            model: nn.Module = copy.deepcopy(state.model)
            objective = copy.deepcopy(state.objective)  # it may count its calls
        except Exception:  # noqa: BLE001 (any module may refuse to be copied; then a cautious guess stands)
            return 4.0
        twin = Observer(model)
        twin.functional = observer.functional

        def plain() -> None:
            model.zero_grad()
            objective(model, state.batch).value.backward()

        def probed() -> None:
            model.zero_grad()
            with twin.forward():
                loss = objective(model, state.batch)
            loss.value.backward()
            twin.gradients()
            twin.weights()
            twin.updates()

        try:
            with torch.random.fork_rng(devices=[]):
                return choices.probe_price(plain, probed)
        except DownslopeError:
            raise
        except Exception as error:  # a model that fails on some of its calls only
            raise _unusable(state, error) from error

    return float(choices.remembered(key, measure))


def _on_device(source: Source, device: torch.device, dtype: torch.dtype) -> Source:
    """Data in memory moves to the device where it fits into half of what is free there."""
    if not isinstance(source, Memory):
        return source
    if device.type == "cuda" and source.bytes > torch.cuda.mem_get_info(device)[0] / 2:
        return Away(source)
    return source.to(device, dtype)


def _batch_size(recipe: Recipe, train: Source) -> int:
    if isinstance(train, Memory):
        return train.size if recipe.batch_size == "full" else min(recipe.batch_size, train.size)
    if not isinstance(train, Loader):
        return (train.size or 64) if recipe.batch_size == "full" else recipe.batch_size
    own = train.batch_size
    if "batch_size" in recipe.said and own != recipe.batch_size and not train.told:
        train.told = True
        _log.warning(
            "the DataLoader's own batches of %s win over the recipe's batch_size %s",
            own or "its sampler", recipe.batch_size,
        )  # fmt: skip
    return own or 1
