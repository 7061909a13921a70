"""A function with known critical points, to look at and to descend on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.spelling import spell
from downslope.terrain.functions.point import Point, height, untargeted

Kind = Literal["minimum", "maximum", "saddle"]


@dataclass(frozen=True, kw_only=True)
class CriticalPoint:
    """Where the gradient is zero, or where a minimum lies on a kink.

    Attributes:
        at: The point, to the last digit of float64.
        value: The function there.
        kind: What it is. A point of inflection on a line (x^3 at 0) is a saddle: there is down on one side.
        is_global: Of a minimum, whether none on the domain lies lower.
        degenerate: Whether the Hessian there does not tell the kind: an eigenvalue is zero, or it lies on a
            kink.
    """

    at: tuple[float, ...]
    value: float
    kind: Kind
    is_global: bool = False
    degenerate: bool = False


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of a few coordinates, what it is known for, and where its critical points lie.

    Attributes:
        name: As `downslope.terrain.functions.get` takes it.
        formula: For people.
        dimension: Coordinates of a point.
        evaluate: Points of shape (..., dimension) to values of shape (...), differentiable where the function
            is.
        domain: Lower and upper end of each coordinate, for drawing and for starts.
        start: Where it is usually begun.
        critical: The critical points inside the domain, lowest first.
        whole: Whether these are all of them; else the global minima are, and some of the others.
        infimum: The lowest value over all of space, -inf where there is none, NaN where it is not known.
        attained: Whether some point has it.
        convex: Whether it is.
        kinks: Whether it lacks a derivative somewhere.
        shows: What it is good for, one sentence.
        source: Where it comes from.
        settings: Of the call that made it.
    """

    name: str
    formula: str
    dimension: int
    evaluate: Callable[[Tensor], Tensor] = field(repr=False)
    domain: tuple[tuple[float, float], ...]
    start: tuple[float, ...]
    critical: tuple[CriticalPoint, ...] = field(default=(), repr=False)
    whole: bool = True
    infimum: float = -math.inf
    attained: bool = True
    convex: bool = False
    kinks: bool = False
    shows: str = ""
    source: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def spelt(self) -> str:
        """Name and settings as one text, which `downslope.terrain.functions.get` reads."""
        return spell(self.name, (), self.settings)

    @property
    def known(self) -> bool:
        """Whether it is one of those here, whose minima are stated; a function of one's own is not."""
        return not math.isnan(self.infimum)

    @property
    def minima(self) -> tuple[CriticalPoint, ...]:
        """The minima among the critical points, lowest first."""
        return tuple(each for each in self.critical if each.kind == "minimum")

    @property
    def lowest(self) -> tuple[CriticalPoint, ...]:
        """The minima below which nothing on the domain lies; none where none is attained."""
        return tuple(each for each in self.critical if each.is_global)

    def __call__(self, points: Tensor) -> Tensor:
        """Values at `points`, shape (..., dimension) to (...).

        Raises:
            InputError: points of another dimension.
        """
        if points.dim() < 1 or points.shape[-1] != self.dimension:
            raise InputError(
                f"{self.spelt} takes points of {self.dimension} coordinates, shape (..., {self.dimension}); "
                f"these have shape {tuple(points.shape)}"
            )
        return self.evaluate(points)

    def at(self, *coordinates: float) -> float:
        """The value at one point, in float64."""
        return float(self(torch.tensor(coordinates, dtype=torch.float64)))

    def gradient(self, points: Tensor) -> Tensor:
        """Gradients at `points`, of their shape."""
        with torch.enable_grad():
            at = points.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(at).sum(), at)
        return slope

    def hessian(self, points: Tensor) -> Tensor:
        """Hessians at `points`, shape (..., dimension) to (..., dimension, dimension)."""
        with torch.enable_grad():
            at = points.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(at).sum(), at, create_graph=True)
            rows = [
                torch.autograd.grad(each.sum(), at, retain_graph=True, materialize_grads=True)[0]
                if each.requires_grad
                else torch.zeros_like(at)
                for each in slope.unbind(-1)
            ]
        return torch.stack(rows, dim=-2).detach()

    def nearest(self, point: Sequence[float]) -> tuple[CriticalPoint, float] | None:
        """The minimum nearest to `point` and its distance; None where there is none."""
        pairs = [(each, math.dist(each.at, point)) for each in self.minima]
        return min(pairs, key=lambda pair: pair[1], default=None)

    def problem(self, start: Sequence[float] | None = None) -> Problem:
        """The task of going down on this function: a model whose only parameter is the point.

        Args:
            start: Where the model begins; left out, the usual start.

        Returns:
            A problem without data to speak of, for `fit`, `survey` and whatever else takes one. The loss is
            the value; a recipe should say ``batch_size="full"`` and how many ``steps``.

        Raises:
            InputError: a start of another dimension.
        """
        begun = self.checked(self.start if start is None else start)
        nothing = torch.zeros(2, 1)
        return Problem(
            model=Point,
            arguments={"function": self.spelt, "start": begun},
            objective=height,
            train=(nothing,),
            split=untargeted,
            name=self.name,
        )

    def checked(self, start: Sequence[float]) -> tuple[float, ...]:
        """`start` as a point of this function.

        Raises:
            InputError: of another dimension, or not finite.
        """
        begun = tuple(float(each) for each in start)
        if len(begun) != self.dimension or not all(map(math.isfinite, begun)):
            raise InputError(
                f"start={tuple(start)}: {self.spelt} takes {self.dimension} finite coordinates, "
                f"such as {','.join(f'{each:g}' for each in self.start)}"
            )
        return begun


def product(
    roots: Sequence[tuple[float, Kind]], single: Callable[[float], float], dimension: int
) -> tuple[CriticalPoint, ...]:
    """The critical points of a sum of one function over the coordinates, from those of the function.

    Each coordinate is at one of `roots`: all minima make a minimum, all maxima a maximum, both a saddle.
    """
    values = [single(root) for root, _ in roots]
    lowest = min(values) * dimension
    found: list[CriticalPoint] = []
    for chosen in itertools.product(range(len(roots)), repeat=dimension):
        kinds: set[Kind] = {roots[i][1] for i in chosen}
        kind: Kind = kinds.pop() if len(kinds) == 1 else "saddle"
        value = math.fsum(values[i] for i in chosen)
        found.append(
            CriticalPoint(
                at=tuple(roots[i][0] for i in chosen),
                value=value,
                kind=kind,
                is_global=math.isclose(value, lowest, rel_tol=1e-14, abs_tol=1e-14),
            )
        )
    return tuple(sorted(found, key=lambda each: each.value))
