"""Values that are not there: inputs are filled in, examples without a target are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import Adapted
from downslope.core.edits.edit import Edit, Entity
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.sources import Memory, Source


class Fill(nn.Module):
    """Puts the mean of its feature in the place of every value that is not finite."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, x: Tensor) -> Tensor:
        """`x` without gaps, same shape."""
        return torch.where(x.isfinite(), x, self.mean.to(x.dtype))


@dataclass(frozen=True)
class FillInputs(Edit):
    """Fill in inputs that are NaN or infinite by the mean of the same feature over the training examples.

    The data that is trained and scored on is filled in, and so is what the model is given afterwards: the
    means are saved with it, where it takes one input. A feature that is never there counts as 0.
    """

    kind: ClassVar[str] = "fill-inputs"
    outermost: ClassVar[bool] = True
    means: tuple[Tensor, ...] = field(default=(), init=False, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose inputs are all there.

        Raises:
            EditError: data that is not held in memory, or inputs that `split` makes.
        """
        inputs = _parts(problem, problem.train_source)[0]
        means = tuple(_mean(each) for each in inputs)
        changed = replace(self)
        object.__setattr__(changed, "means", means)

        def filled(source: Source) -> Memory:
            held, own = _held(source), _parts(problem, source)[0]
            by = {id(each): Fill(mean)(each) for each, mean in zip(own, means, strict=True)}
            batch = batches.map_tensors(lambda x: by.get(id(x), x), held.batch)
            return Memory(batch, held.origin, held.reading)

        return super(FillInputs, changed).apply_to_problem(_with(problem, filled))

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` behind a layer that fills in."""
        return Adapted(model, before=Fill(self.means[0].clone())) if len(self.means) == 1 else model

    def __str__(self) -> str:
        return "fill in missing inputs by the mean of their feature"


@dataclass(frozen=True)
class LeaveOut(Edit):
    """Leave out the examples whose target is NaN or infinite; no other target is touched."""

    kind: ClassVar[str] = "leave-out"
    entity: ClassVar[Entity] = "objective"

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem without these examples.

        Raises:
            EditError: data that is not held in memory, targets that `split` makes, or no target at all.
        """

        def kept(source: Source) -> Memory:
            held = _held(source)
            there = torch.ones(held.size, dtype=torch.bool)
            for each in _parts(problem, source)[1]:
                there &= each.isfinite().reshape(len(each), -1).all(1).cpu()
            if not bool(there.any()):
                raise EditError("no example has a target: there is nothing to learn from")
            rows = there.nonzero().flatten().to(held.device)
            return held if bool(there.all()) else Memory(batches.take(held.batch, rows))

        return super().apply_to_problem(_with(problem, kept))

    def __str__(self) -> str:
        return "leave out the examples whose target is missing"


def _with(problem: Problem, change: Callable[[Source], Memory]) -> Problem:
    valid = problem.valid_source
    return replace(
        problem, train=change(problem.train_source), valid=None if valid is None else change(valid)
    )


def _held(source: Source) -> Memory:
    if not isinstance(source, Memory):
        raise EditError("only data in memory can be completed: do it where the batches are made")
    return source


def _parts(problem: Problem, source: Source) -> tuple[list[Tensor], list[Tensor]]:
    """The floating tensors of the data that are inputs alone, and those that are targets."""
    batch = _held(source).batch
    args, kwargs, target = problem.splitter(batch)
    stored = {id(each) for each in batches.tensors(batch)}
    targets = {id(each): each for each in batches.tensors(target)}
    inputs = {id(each): each for each in batches.tensors((args, kwargs))}
    if not (set(targets) | set(inputs)) <= stored:
        raise EditError("split makes other tensors than the data holds: complete them where they are made")

    def real(found: dict[int, Any]) -> list[Tensor]:
        return [each for each in found.values() if each.is_floating_point()]

    return real({key: each for key, each in inputs.items() if key not in targets}), real(targets)


def _mean(x: Tensor) -> Tensor:
    there = x.isfinite()
    total = torch.where(there, x, torch.zeros_like(x)).double().sum(0)
    return (total / there.sum(0).clamp_min(1)).to(x.dtype)
