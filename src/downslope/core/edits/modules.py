"""Changes of the model: a module for another, one before or after it, an argument of its factory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from downslope.core.adapted import Adapted, unwrap
from downslope.core.edits.edit import Edit, ModuleFactory, check_modules, label, make, several
from downslope.core.problem import Problem


@dataclass(frozen=True)
class ReplaceModule(Edit):
    """Replace the module with a qualified name by another.

    Args:
        name: Qualified name in the user's model, such as "features.3".
        factory: ``() -> nn.Module``, or an import path such as "torch.nn:ReLU".
        arguments: Keyword arguments of the factory.
    """

    kind: ClassVar[str] = "replace-module"
    name: str
    factory: str | ModuleFactory
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models have the module replaced."""
        check_modules(problem, (self.name,))
        return super().apply_to_problem(problem)

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with the module replaced, in place in this fresh model."""
        owner, _, leaf = self.name.rpartition(".")
        setattr(unwrap(model).get_submodule(owner), leaf, make(self.factory, self.arguments))
        return model

    def __str__(self) -> str:
        return replaced((self.name,), self.new)

    @property
    def new(self) -> str:
        """What is put in, with the settings that are no sizes: "Dropout(p=0.1)"."""
        settings = [f"{key}={value:g}" for key, value in self.arguments.items() if isinstance(value, float)]
        return label(self.factory) + (f"({', '.join(settings)})" if settings else "")


def replaced(names: Sequence[str], new: str) -> str:
    """Modules that give way to the same, in words; a layer with an activation inside is none of anybody's."""
    inside = new.startswith("Activated")
    return f"put a ReLU after {several(names)}" if inside else f"{several(names)} -> {new}"


@dataclass(frozen=True)
class WrapModel(Edit):
    """Put a module before or after the whole model; what is after changes what the user reads."""

    kind: ClassVar[str] = "wrap-model"
    before: str | ModuleFactory | None = None
    after: str | ModuleFactory | None = None

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model` with the modules before and after it."""
        ends = (("before", self.before), ("after", self.after))
        return Adapted(model, **{key: make(each, {}) for key, each in ends if each})

    def __str__(self) -> str:
        ends = (("before", self.before), ("after", self.after))
        said = [f"{label(each)} {where}" for where, each in ends if each]
        return f"put {' and '.join(said)} the model"


@dataclass(frozen=True)
class SetArgument(Edit):
    """Change an argument of the model factory: ``SetArgument("width", 128)``."""

    kind: ClassVar[str] = "set-argument"
    name: str
    value: Any

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem with the argument changed."""
        return problem.edit(**{f"model.{self.name}": self.value})

    def __str__(self) -> str:
        return f"model.{self.name} -> {self.value}"
