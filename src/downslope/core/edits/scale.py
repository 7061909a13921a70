"""Standardising, on the way in and on the way out: raw inputs in, raw units out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from downslope.core.adapted import Adapted, Restore, Standardise, scale_of
from downslope.core.edits.edit import Edit, Entity
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.samples import first_input, target_of


@dataclass(frozen=True)
class StandardiseInputs(Edit):
    """Standardise the inputs inside the model; raw inputs still go in.

    Mean and standard deviation come from the training data, per feature or per channel
    (`downslope.core.adapted.scale_of`), and are saved with the model. A problem that standardises its inputs
    stays as it is.
    """

    kind: ClassVar[str] = "standardise-inputs"
    scale: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models standardise what they are given."""
        if any(isinstance(each, StandardiseInputs) for each in problem.edits):
            return problem
        inputs = first_input(problem)
        if not inputs.is_floating_point():
            raise EditError(
                f"inputs of type {inputs.dtype} are indices, not measurements: they have no scale"
            )
        return super(StandardiseInputs, replace(self, scale=scale_of(inputs))).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` behind a standardising layer."""
        return model if self.scale is None else Adapted(model, before=Standardise(*_cloned(self.scale)))

    def __str__(self) -> str:
        return "standardise the inputs"


@dataclass(frozen=True)
class StandardiseTargets(Edit):
    """Let the objective see standardised targets; the model's output stays in the user's units.

    Of a target with several columns each is standardised by itself, and one of yes or no (0 and 1 alone)
    beside measurements is left as it is: it has no unit, and what stands for it in the output may be a score.
    A problem whose targets are standardised stays as it is: twice would move them away from 0 again.
    """

    kind: ClassVar[str] = "standardise-targets"
    entity: ClassVar[Entity] = "objective"
    scale: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose objective is computed in standard units."""
        if any(isinstance(each, StandardiseTargets) for each in problem.edits):
            return problem
        target = target_of(problem)
        if not target.is_floating_point():
            raise EditError(
                f"targets of type {target.dtype} are classes, not measurements: they have no scale"
            )
        mean, std = scale_of(target)
        if target.dim() <= 1 or target.shape[1:] == (1,):
            mean, std = mean.reshape(()), std.reshape(())
        elif target.dim() == 2:
            mean, std = _but_yes_or_no(target, mean, std)
        return super(StandardiseTargets, replace(self, scale=(mean, std))).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` before a layer that restores the units, its targets standardised in training."""
        if self.scale is None:
            return model
        after, target = Restore(*_cloned(self.scale)), Standardise(*_cloned(self.scale))
        return Adapted(model, after=after, target=target)

    def __str__(self) -> str:
        return "standardise the targets"


def _but_yes_or_no(target: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation by column, with 0 and 1 for columns of 0 and 1 that stand beside others."""
    flags = ((target == 0) | (target == 1)).all(dim=0)
    if bool(flags.all()):
        return mean, std
    return mean.masked_fill(flags, 0.0), std.masked_fill(flags, 1.0)


def _cloned(scale: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return scale[0].clone(), scale[1].clone()
