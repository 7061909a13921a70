"""Several edits as one, and what no edit can do."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from downslope.core.edits.edit import Edit
from downslope.core.edits.modules import ReplaceModule, replaced
from downslope.core.errors import EditError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe


@dataclass(frozen=True)
class Combined(Edit):
    """Several edits as one."""

    kind: ClassVar[str] = "combined"
    edits: tuple[Edit, ...]

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """Each in turn."""
        for edit in self.edits:
            problem, recipe = edit.apply(problem, recipe)
        return problem, recipe

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Each in turn."""
        return problem.edit(*self.edits)

    @property
    def meaning(self) -> str:
        """Those of the edits."""
        return "; ".join(dict.fromkeys(each.meaning for each in self.edits if each.meaning))

    def to_dict(self) -> dict[str, Any]:
        """The edits, each plain."""
        return {"kind": self.kind, "edits": [edit.to_dict() for edit in self.edits]}

    def __str__(self) -> str:
        said: list[str] = []
        for alike, group in groupby(self.edits, _replacement):
            edits = list(group)
            if alike and len(edits) > 1:
                names = [each.name for each in edits if isinstance(each, ReplaceModule)]
                said.append(replaced(names, alike))
            else:
                said += [str(each) for each in edits]
        return " and ".join(said)


def _replacement(edit: Edit) -> str:
    """What a module gives way to: neighbours that give way to the same are told in one breath."""
    return edit.new if isinstance(edit, ReplaceModule) else ""


@dataclass(frozen=True)
class Advice(Edit):
    """What a person has to do in code or data; it cannot be applied, so it cannot be proved."""

    kind: ClassVar[str] = "advice"
    provable: ClassVar[bool] = False
    text: str

    def apply_to_problem(self, problem: Problem) -> Problem:
        """Refused."""
        raise EditError(f"{self.text!r} is advice: it has to be done by hand")

    def __str__(self) -> str:
        return self.text
