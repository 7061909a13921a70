"""Changes of what a run starts from: the initial weights, and which of them are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from downslope.core import names
from downslope.core.adapted import unwrap
from downslope.core.edits.edit import Edit, check_modules, several
from downslope.core.problem import Problem

_WORDS = {
    "auto": "to suit each layer's activation", "he": "by He's rule", "he_uniform": "by He's rule, uniform",
    "xavier": "by Xavier's rule", "xavier_uniform": "by Xavier's rule, uniform", "lecun": "by LeCun's rule",
    "normal": "from a normal distribution", "orthogonal": "as orthogonal matrices", "zeros": "with zeros",
    "uniform": "from a uniform distribution", "truncated_normal": "from a normal distribution without tails",
    "constant": "with one number", "lecun_uniform": "by LeCun's rule, uniform",
    "lsuv": "layer by layer to unit variance", "fixup": "by Fixup's rule for residual branches",
}  # fmt: skip
"""What the named rules do, as one says it."""


@dataclass(frozen=True)
class Reinitialise(Edit):
    """Draw the initial weights anew by a named rule, for the whole model or for some modules.

    Args:
        init: A name such as "he"; "auto" reads the activation that follows.
        modules: Qualified names in the user's model; none means all.
    """

    kind: ClassVar[str] = "reinitialise"
    init: str
    modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "init", names.canonical("init", self.init))

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models start from other weights."""
        check_modules(problem, self.modules)
        return super().apply_to_problem(problem)

    def start(self, model: nn.Module, problem: Problem) -> None:
        """The weights of `model` drawn anew."""
        names.load("downslope.init:start")(model, self.init, problem, modules=self.modules)

    def __str__(self) -> str:
        where = f" of {several(self.modules)}" if self.modules else ""
        return f"initialise the weights{where} {_WORDS.get(self.init, f'by {self.init}')}"


@dataclass(frozen=True)
class Unfreeze(Edit):
    """Train parameters that were held fixed (``requires_grad=False``), of the whole model or of some modules.

    Args:
        modules: Qualified names in the user's model; none means all.
    """

    kind: ClassVar[str] = "unfreeze"
    modules: tuple[str, ...] = ()

    def apply_to_problem(self, problem: Problem) -> Problem:
        """The problem whose models train these modules."""
        check_modules(problem, self.modules)
        return super().apply_to_problem(problem)

    def start(self, model: nn.Module, problem: Problem) -> None:
        """Every parameter of the modules is trained."""
        del problem
        inner = unwrap(model)
        for name in self.modules or ("",):
            inner.get_submodule(name).requires_grad_(True)

    def __str__(self) -> str:
        return f"train {several(self.modules) if self.modules else 'all parameters'}"
