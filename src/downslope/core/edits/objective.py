"""Another objective in the place of the one given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from downslope.core.edits.edit import Edit, Entity, label
from downslope.core.problem import Problem

_MEANINGS: dict[str, str] = {
    "categorical": "the negative log of the probability that the model gives the true class, for a model "
    "that ends in a softmax; in torch F.nll_loss(torch.log(output), target)",
    "bernoulli": "the negative log of the probability that the model gives the true label, for a model that "
    "ends in a sigmoid; in torch F.binary_cross_entropy(output, target)",
    "cross_entropy": "the negative log of the probability of the true class, for a model that puts out "
    "scores; in torch F.cross_entropy(output, target)",
    "logistic": "the negative log of the probability of the true label, for a model that puts out a score; "
    "in torch F.binary_cross_entropy_with_logits(output, target)",
    "squared_error": "the mean squared difference; in torch F.mse_loss(output, target)",
    "absolute_error": "the mean absolute difference; in torch F.l1_loss(output, target)",
    "huber": "squared up to 1, linear beyond; in torch F.huber_loss(output, target)",
}
"""Downslope's own names of objectives, in words and as torch spells them."""


@dataclass(frozen=True)
class SetObjective(Edit):
    """Swap the objective for another: a name, or ``(output, target) -> scalar``."""

    kind: ClassVar[str] = "set-objective"
    entity: ClassVar[Entity] = "objective"
    objective: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the objective swapped."""
        return problem.edit(objective=self.objective)

    @property
    def meaning(self) -> str:
        """The objective in words, and as torch spells it."""
        name = label(self.objective)
        return f"{name}: {_MEANINGS[name]}" if name in _MEANINGS else ""

    def __str__(self) -> str:
        return f"objective -> {label(self.objective)}"
