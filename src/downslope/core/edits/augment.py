"""Another augmentation of the training batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from downslope.core import names
from downslope.core.edits.edit import Edit, Entity
from downslope.core.problem import Problem
from downslope.core.stated import in_words


@dataclass(frozen=True)
class SetAugment(Edit):
    """Change training batches as they are drawn: ``SetAugment("shift(3)")``.

    Args:
        augment: What ``Problem(augment=...)`` takes; None takes it away.
    """

    kind: ClassVar[str] = "set-augment"
    entity: ClassVar[Entity] = "optimisation"
    augment: Any

    def __post_init__(self) -> None:
        if self.augment is not None:
            names.load("downslope.augment:read")(self.augment)

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose training batches are changed so."""
        return problem.edit(augment=self.augment)

    def to_dict(self) -> dict[str, Any]:
        """``kind`` and the augmentation as text."""
        return {"kind": self.kind, "augment": in_words(self.augment)}

    def __str__(self) -> str:
        return f"augment -> {in_words(self.augment) or 'nothing'}"
