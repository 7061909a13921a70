"""What a constraint is: a set in which parameters have to stay, with the way back into it.

A set C is convex if the line between any two of its points stays in it. Then every point has one nearest
point in C, its projection, and gradient descent with a projection after every step ends in the minimum over C
(Goldstein 1964; Levitin and Polyak 1966). Intersections of convex sets are convex, unions need not be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from downslope.core.adapted import unwrap
from downslope.core.errors import InputError
from downslope.core.groups import Group
from downslope.core.modules import named_modules
from downslope.core.names import did_you_mean

if TYPE_CHECKING:
    from downslope.constraints.combined import Intersection, Union

By = Literal["projection", "parametrisation"]

WEIGHTS = (2, 3, 4, 5)
"""Numbers of dimensions of what is held by default: weights, not biases or norms."""


@dataclass(frozen=True, kw_only=True)
class Constraint(ABC):
    """A set for parameters. Called with a model, it brings them back into the set, each to its nearest point.

    Args:
        params: Names of parameters, or patterns in which ``*`` is any text; left out, all weights (two or
            more dimensions).
        by: "projection" after every step, or "parametrisation": the weight is a smooth function of free
            numbers, so that it cannot leave the set.

    Raises:
        InputError: a pattern that is no text, or a `by` that does not exist.
    """

    name: ClassVar[str]
    convex: ClassVar[bool | None]
    """Whether the line between two of its points stays inside; None where that hangs on the case."""

    params: str | tuple[str, ...] = ()
    by: By = "projection"

    def __post_init__(self) -> None:
        given: Any = self.params
        listed = cast("list[Any]", given) if isinstance(given, list) else []
        several: Any = (given,) if isinstance(given, str) else tuple(listed) if listed else given
        if not isinstance(several, tuple) or not all(isinstance(each, str) for each in cast("Any", several)):
            raise InputError(f"{self.name}: params={given!r}: must be names or patterns, such as '0.weight'")
        object.__setattr__(self, "params", several)
        if self.by not in ("projection", "parametrisation"):
            raise InputError(f"{self.name}: by={self.by!r}: must be 'projection' or 'parametrisation'")

    @abstractmethod
    def project(self, w: Tensor) -> Tensor:
        """The nearest point of the set, same shape; `w` itself where it is inside."""

    def map(self, w: Tensor) -> nn.Module:
        """A module from free numbers onto the inside of the set, with its inverse, for a weight like `w`.

        Raises:
            InputError: this set has none.
        """
        raise InputError(f"{self}: has no parametrisation for shape {tuple(w.shape)}; use by='projection'")

    def start(self, w: Tensor) -> Tensor:
        """Where a parametrisation starts: in the set, and so far from its edge that the map is not flat."""
        return self.project(w)

    def distance(self, w: Tensor) -> float:
        """Euclidean distance from `w` to the set; 0 inside."""
        return float((w - self.project(w)).square().sum().sqrt())

    # -- on a model -----------------------------------------------------------------------------------------

    def takes(self, its_names: tuple[str, ...], ndim: int) -> bool:
        """Whether a parameter of these names and dimensions is held."""
        which = Group(params=cast("tuple[str, ...]", self.params)) if self.params else Group(ndim=WEIGHTS)
        return which.takes(its_names, ndim)

    def held(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters that are held, by name.

        Raises:
            InputError: there is none.
        """
        found = {name: p for name, _, _, p in _places(model) if self.takes((name,), p.dim())}
        if not found:
            known = [name for name, _, _, _ in _places(model)]
            asked = ", ".join(repr(each) for each in self.params) or "weights"
            near = did_you_mean(self.params[0], known) if self.params else "; name them with params="
            raise InputError(f"{self}: the model has no parameter {asked}{near}")
        return found

    def violation(self, model: nn.Module) -> float:
        """The largest distance of a held parameter to the set."""
        with torch.no_grad():
            return max(self.distance(p) for p in self.held(model).values())

    def __call__(self, model: nn.Module) -> None:
        """Bring every held parameter back, in place; what is parametrised cannot have left."""
        if self.by == "parametrisation":
            return
        with torch.no_grad():
            for p in self.held(model).values():
                p.copy_(self.project(p))

    def prepare(self, model: nn.Module) -> None:
        """Make a fresh model start inside the set.

        Raises:
            InputError: no parameter is held, or one has a shape that the set does not take.
        """
        held = self.held(model)
        if self.by == "projection":
            self(model)
            return
        for name, owner, leaf, p in list(_places(model)):
            if name in held:
                with torch.no_grad():
                    p.copy_(self.start(p))
                parametrize.register_parametrization(owner, leaf, self.map(p.detach()))

    # -- sets of sets ---------------------------------------------------------------------------------------

    def __and__(self, other: Constraint) -> Intersection:
        from downslope.constraints.combined import Intersection

        return Intersection(self, other)

    def __or__(self, other: Constraint) -> Union:
        from downslope.constraints.combined import Union

        return Union(self, other)

    def __str__(self) -> str:
        own = [f for f in fields(self) if f.name not in ("params", "by")]
        said = [_said(getattr(self, f.name)) for f in own]
        params = cast("tuple[str, ...]", self.params)
        if params:
            said.append(f"params={params[0]!r}" if len(params) == 1 else f"params={params!r}")
        if self.by != "projection":
            said.append(f"by={self.by!r}")
        return f"{self.name}({', '.join(said)})" if said else self.name


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return repr(value)


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, nn.Parameter]]:
    """Name, owner, name in the owner, and parameter, each parameter once, by the user's own names."""
    seen: set[int] = set()
    for prefix, module in named_modules(unwrap(model)):
        for leaf, p in module.named_parameters(recurse=False):
            if id(p) not in seen:
                seen.add(id(p))
                yield (f"{prefix}.{leaf}" if prefix else leaf), module, leaf, p


def number(name: str, what: str, value: Any, *, positive: bool = False) -> float:
    """`value` as a float.

    Raises:
        InputError: no number, NaN, or not positive where it has to be.
    """
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if not good or (positive and not 0 < value < float("inf")):
        raise InputError(
            f"{name}: {what}={value!r}: must be {'a positive number' if positive else 'a number'}"
        )
    return float(value)


def rows(w: Tensor) -> Tensor:
    """A weight as rows, one a unit: a vector is one row."""
    return w.reshape(1, -1) if w.dim() < 2 else w.flatten(1)
