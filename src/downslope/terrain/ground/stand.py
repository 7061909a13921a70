"""Where to stand: the model that a user gave, in whatever form, checked before anything is measured."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, ObjectiveError, told
from downslope.core.fixed_sample import precision
from downslope.core.loss import Loss, check_trainable
from downslope.core.matched import load_weights
from downslope.core.memory import out_of_memory
from downslope.core.problem import Problem
from downslope.core.run import Run
from downslope.terrain.functions.point import Point as FunctionPoint
from downslope.terrain.ground.ground import ModelGround
from downslope.terrain.ground.point import ground_of

Standing = nn.Module | Run | Mapping[str, Tensor] | str | Path | None
"""A model, a run (its last model), weights or their file, or the start."""

BOUND = "model and objective run in"
"""How the note begins of a model that runs in one precision only."""


def stand(problem: Problem, model: Standing, seed: int) -> tuple[nn.Module, list[str]]:
    """The module to stand at, and what is to be known of it.

    Args:
        problem: Whose model it is.
        model: A module, a Run, a state dict or the path of one, or None for the start of `seed`.
        seed: Of the start.

    Raises:
        InputError: none of these.
        WeightsError: weights that cannot be read or do not fit.
    """
    if model is None:
        return problem.build(seed), [f"measured at the start of seed {seed}, before any training"]
    if isinstance(model, nn.Module):
        return model, []
    if isinstance(model, Run):
        return model.model("last"), []
    if isinstance(model, (Mapping, str, Path)):  # pyright: ignore[reportUnnecessaryIsInstance]
        built = problem.build(seed)
        load_weights(built, model, strict=True)
        return built, []
    raise InputError(
        f"model={type(model).__name__}: must be a torch.nn.Module, a Run, a state dict or its path, or None "
        "for the start"
    )


def wide(model: nn.Module, dtype: torch.dtype | str | None, notes: list[str]) -> torch.dtype | None:
    """The precision to measure in: half precision cannot hold a second difference of anything."""
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype, dtype)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype={dtype!r}: must be torch.float32 or torch.float64, or their names")
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    narrow = sorted(str(each).removeprefix("torch.") for each in kinds & {torch.float16, torch.bfloat16})
    if dtype is None and isinstance(model, FunctionPoint):
        return torch.float64
    if dtype is None and narrow:
        notes.append(f"weights in {', '.join(narrow)} are measured in float32, which holds their curvature")
        return torch.float32
    if dtype is not None and not dtype.is_floating_point:
        raise InputError(f"dtype={dtype}: must be a floating type, torch.float32 or torch.float64")
    return dtype


def ground_at(
    problem: Problem, model: nn.Module, *, examples: Any, dtype: torch.dtype | None, seed: int,
    bound: bool = False,
) -> tuple[ModelGround, Tensor]:  # fmt: skip
    """The ground that `model` stands on, and the loss of its first piece with its graph.

    Args:
        problem: What is learnt.
        model: Where to stand.
        examples: As of `ground_of`.
        dtype: To measure in; None for the model's own.
        seed: As of `ground_of`.
        bound: Whether a model that does not run in `dtype` is measured in its own, which is noted.

    Raises:
        ModelError: a model that does not fit the examples, or that does not run in `dtype`; and what
            `check_ground` raises.
    """

    def made(kind: torch.dtype | None) -> tuple[ModelGround, Tensor]:
        ground = ground_of(problem, model, examples=examples, dtype=kind, seed=seed)
        return ground, check_ground(ground)

    with running(model):
        try:
            return made(dtype)
        except (RuntimeError, TypeError) as error:
            own = precision(model)
            if isinstance(error, DownslopeError) or dtype in (None, own) or out_of_memory(error):
                raise
            ground, loss = made(None)
            why = f"{BOUND} {str(own).removeprefix('torch.')} alone: {told(error)}"
            if not bound:
                raise ModelError(f"{why}; this is measured in {dtype}: cast what it holds itself") from error
            ground.notes.insert(0, why)
            return ground, loss


@contextlib.contextmanager
def running(model: nn.Module) -> Generator[None]:
    """Tell in one line what goes wrong in a model that is run on the problem's examples, but for memory.

    Raises:
        ModelError: they do not go together.
    """
    try:
        yield
    except DownslopeError:
        raise
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(
            f"the model ({type(model).__name__}) does not run on the problem's examples: {told(error)}; give "
            "a model of this problem"
        ) from error


def check_ground(ground: ModelGround) -> Tensor:
    """Refuse, in one line, what has no terrain: weights or data that are not finite, a loss cut off.

    Returns:
        The loss of the first piece, of as much of it as there is memory for, with its graph.

    Raises:
        ModelError: weights that are not finite.
        DataError: examples that are not finite.
        ObjectiveError: a loss that is not finite, or from which no gradient flows.
    """
    for name, p in zip(ground.names, ground.params, strict=True):
        if bad := int((~p.detach().isfinite()).sum()):
            raise ModelError(
                f"weights of {name}: {bad} of {p.numel()} are not finite, so there is no terrain here; "
                "survey an earlier model, such as the best one"
            )
    batch, loss = ground.within(lambda: _first(ground))
    check_trainable(ground.model, loss)
    if bool(torch.isfinite(loss.value.detach())):
        return loss.value
    _check_data(batch)
    raise not_finite(float(loss.value.detach()))


def _first(ground: ModelGround) -> tuple[Any, Loss]:
    part = next(ground.shares(), None)
    batch = next(iter(ground.pieces)).batch if part is None else part[1].batch
    return batch, ground.run(batch)


def not_finite(loss: float) -> ObjectiveError:
    """What is told of a loss that has no slope."""
    return ObjectiveError(
        f"the loss is {loss} at these weights, so it has no slope and no curvature: "
        "look for a division by zero, a logarithm of zero or an overflow in the objective"
    )


def _check_data(batch: Any) -> None:
    for index, leaf in enumerate(batches.tensors(batch)):
        if leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            bad: list[int] = (~leaf.isfinite()).nonzero()[0].tolist()
            raise DataError(
                f"the examples are not finite: tensor {index} of a batch holds {float(leaf[tuple(bad)])} at "
                f"{tuple(bad)}; downslope diagnose tells every place"
            )
