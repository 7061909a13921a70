"""Whitening on the way in: features that say nearly the same are turned into ones that are independent."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import Tensor, nn

from downslope.core.adapted import Adapted, Whiten, whitening_of
from downslope.core.edits.edit import Edit
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.samples import first_input

WIDEST = 512
"""Features beyond which the matrix costs more than it is worth."""


@dataclass(frozen=True)
class WhitenInputs(Edit):
    """Whiten the inputs inside the model, ``W (x - mean)``; raw inputs still go in.

    Mean and matrix come from the training data (`downslope.core.adapted.whitening_of`) and are saved with
    the model. For tables of numbers.
    """

    kind: ClassVar[str] = "whiten-inputs"
    scale: tuple[Tensor, Tensor] | None = field(default=None, repr=False, compare=False)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models whiten what they are given.

        Raises:
            EditError: the inputs are no table of numbers, or too wide a one.
        """
        inputs = first_input(problem)
        if not inputs.is_floating_point() or inputs.dim() != 2 or inputs.shape[1] > WIDEST:
            raise EditError(
                f"inputs of shape {tuple(inputs.shape)} and type {inputs.dtype} cannot be whitened: it takes "
                f"a table of numbers, (examples, features) of at most {WIDEST} features"
            )
        return super(WhitenInputs, replace(self, scale=whitening_of(inputs))).apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` behind a whitening layer."""
        if self.scale is None:
            return model
        return Adapted(model, before=Whiten(self.scale[0].clone(), self.scale[1].clone()))

    def __str__(self) -> str:
        return "whiten the inputs"
