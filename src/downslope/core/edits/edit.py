"""What an edit is: one change, with what it touches, how it reads and what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, cast

from torch import nn

from downslope.core import names
from downslope.core.adapted import unwrap
from downslope.core.errors import EditError
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.stated import reference, without_module

Entity = Literal["model", "objective", "optimisation"]
ModuleFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Edit:
    """One change. Subclasses say what they touch, how they read, and what they do."""

    kind: ClassVar[str] = "edit"
    entity: ClassVar[Entity] = "model"
    provable: ClassVar[bool] = True
    outermost: ClassVar[bool] = False
    """Whether it acts on raw inputs, before what other edits put before the model."""

    @property
    def meaning(self) -> str:
        """What the words of `str` mean, where they hold a name that is Downslope's own; else ""."""
        return ""

    def apply(self, problem: Problem, recipe: Recipe) -> tuple[Problem, Recipe]:
        """Problem and recipe with this edit; both new where touched.

        Raises:
            EditError: the edit does not fit.
        """
        return self.apply_to_problem(problem), recipe

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with this edit."""
        return replace(problem, edits=(*problem.edits, self))

    def adapt(self, model: nn.Module) -> nn.Module:
        """A freshly made model with this edit; called for every run."""
        return model

    def start(self, model: nn.Module, problem: Problem) -> None:
        """Change the initial weights of a model of `problem` to which all edits are applied."""

    def to_dict(self) -> dict[str, Any]:
        """``kind`` and the fields, plain; code becomes its import path."""
        return {"kind": self.kind} | {
            each.name: _saved(getattr(self, each.name)) for each in fields(self) if each.init and each.repr
        }


def check_modules(problem: Problem, wanted: Sequence[str]) -> None:
    """Refuse names of modules that the model does not have."""
    known = [name for name, _ in named_modules(unwrap(problem.build())) if name] if wanted else []
    for name in wanted:
        if name not in known:
            raise EditError(f"the model has no module {name!r}{names.did_you_mean(name, known)}")


def make(factory: str | ModuleFactory, arguments: Mapping[str, Any]) -> nn.Module:
    """The module that `factory` makes; an EditError in one line where it cannot."""
    made: Any = names.load(factory) if isinstance(factory, str) else factory
    try:
        module = made(**arguments)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise EditError(f"{label(factory)} could not be made: {type(error).__name__}: {reason}") from error
    if not isinstance(module, nn.Module):
        raise EditError(f"{label(factory)} made {type(module).__name__}: it must make an nn.Module")
    return module


def several(names: Sequence[str]) -> str:
    """Names of modules in a row; of more than four the first three, the last and how many they are.

    Mere numbers are said to be modules, as "3" alone reads as a number.
    """
    bare = all(each.replace(".", "").isdigit() for each in names)
    word = ("modules " if len(names) > 1 else "module ") if bare else ""
    if len(names) <= 4:
        return word + ", ".join(names)
    return f"{word}{', '.join(names[:3])} ... {names[-1]} ({len(names)})"


def label(thing: Any) -> str:
    """A short name of a function, a class or a named thing."""
    if getattr(thing, "in_code", None) is not None:  # an adapter of the user's own code says what it is
        return str(thing)
    return without_module(str(reference(thing))).removesuffix("()")


def _saved(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool, Mapping, tuple)) or value is None:
        return cast("Any", value)
    return reference(value)
