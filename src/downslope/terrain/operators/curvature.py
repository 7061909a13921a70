"""A curvature matrix of a ground: summed over its parts, by the cheapest way, in the memory there is."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.core.memory import out_of_memory, within_memory
from downslope.terrain.ground.parts import held
from downslope.terrain.hvp import Hessian, length
from downslope.terrain.operators.blocks import BlockDiagonal, layers, matching
from downslope.terrain.operators.operator import Operator

Way = Literal["reverse", "linearize", "forward"]
T = TypeVar("T")
Kind = Literal["hessian", "gauss_newton", "true", "empirical"]

KEPT = 2 * 2**30
"""Bytes of graphs that are kept between products; beyond, each product forms them anew."""

_GAIN = {"hessian": 0.25, "gauss_newton": 0.45, "true": 0.45, "empirical": 0.45}
"""Share of a product that linearisation saves (a CNN of 215 k parameters: 0.97 gradients beside 1.29)."""

_TRACE = {"hessian": 6.0, "gauss_newton": 2.5, "true": 2.5, "empirical": 2.5}
"""What tracing costs, in products."""

_SECONDS = 1.0
"""Seconds that tracing costs at least, the first time in a process."""


class Part(NamedTuple):
    """What one term of the sum is made of."""

    make: Callable[[Way], Operator]
    """The operator of this part, by one way."""
    weight: float


class Parted(Protocol):
    """What a `Curvature` asks of its ground."""

    params: list[Tensor]
    names: list[str]
    notes: list[str]
    chosen: dict[str, Way]
    memory: int
    decay: Tensor | None
    formed: int

    def parts(self, kind: Kind) -> Iterator[Part]:
        """Operator and weight of every part of the data."""
        ...

    def ways(self, kind: Kind) -> Sequence[Way]:
        """Ways that there are, the first one certain."""
        ...

    def slope(self) -> tuple[float, Tensor]:
        """Loss and flat gradient."""
        ...

    def shrink(self) -> None:
        """Take smaller parts from now on, or raise what tells that there are none."""
        ...

    def restricted(self, names: Sequence[str]) -> Parted:
        """The same ground over some of the parameters."""
        ...


class Curvature:
    """``sum_i w_i A_i`` over the parts of a ground, by one of three exact ways.

    "reverse": the graph of the gradient (or of the outputs) is kept, a product is a backward pass through it.
    "linearize": what a product needs is traced once by `torch.func.linearize`; dearer to set up, then the
    cheapest. "forward": the derivative of the gradient (or of the outputs) along the vector, nothing kept.

    Without `products` the way is "reverse", the same bits at every run. With it the ways are timed on the
    first part, while products are asked for, wherever the number of products to come can pay for it, checked
    against one another, and the cheapest for that number is taken; `reason` says so. Where the graphs of all
    parts would take more than the ground's `memory` none is kept, and "reverse" forms each anew. Where there
    is no memory for a part, parts are halved, down to one example, and it is told in the ground's `notes`.

    Args:
        ground: What it is the curvature of. Products are those of where it stands when they are asked for,
            except for graphs that are kept: move it, and take a new operator.
        kind: Which matrix.
        products: How many products are expected.

    Attributes:
        size: Length of a flat vector.
        way: How products come about by now.
        reason: Why, with the times measured.
    """

    def __init__(self, ground: Parted, kind: Kind, products: int | None = None) -> None:
        self.ground: Parted = ground
        self.kind: Kind = kind
        self.size = sum(p.numel() for p in ground.params)
        self.dtype, self.device = ground.params[0].dtype, ground.params[0].device
        self.way: Way = ground.chosen.get(kind, "reverse")
        self.reason = "no number of products was given" if products is None else ""
        self._decay = ground.decay if kind in ("hessian", "gauss_newton") else None
        self._products = products
        self._timed = products is None or kind in ground.chosen
        self._kept: list[tuple[Operator, float]] | None = None
        self._keeps = self._exact = True
        self._within(self._form)

    @property
    def exact(self) -> bool:
        """False where products are differences."""
        return self._exact and all(each.exact for each, _ in self._kept or [])

    @property
    def params(self) -> list[Tensor]:
        """The parameters, in the order of the flat vector."""
        return self.ground.params

    def product(self, vector: Tensor) -> Tensor:
        """The matrix times `vector`, shape (size,).

        Raises:
            InputError: a vector of another shape.
        """
        if vector.shape != (self.size,):
            raise InputError(
                f"a vector of shape {tuple(vector.shape)}: must have shape ({self.size},), a number for each "
                "parameter that is trained, in their order"
            )
        vector = vector.to(self.device, self.dtype)
        if not self._timed:
            self._timed = True
            self._within(functools.partial(self._choose, vector))
        found = self._within(functools.partial(self._sum, vector))
        return found if self._decay is None else found + self._decay * vector

    def likely(self) -> Tensor:
        """A direction that is likely to have much of the largest eigenvectors: the gradient of the ground.

        Free where graphs of gradients are kept, one gradient else.
        """
        kept = [(each, weight) for each, weight in self._kept or [] if isinstance(each, Hessian)]
        if not kept or len(kept) < len(self._kept or []):
            return self.ground.slope()[1]
        return torch.stack([weight * each.gradient for each, weight in kept]).sum(0)

    def block(self, names: str | Sequence[str]) -> Curvature:
        """The diagonal block of some parameters, as an operator on their flat vector.

        Args:
            names: Of parameters or of modules, or patterns such as ``"head.*"``; their order is that of the
                model.

        Raises:
            InputError: a name that fits nothing.
        """
        some = [names] if isinstance(names, str) else names
        return Curvature(self.ground.restricted(some), self.kind, self._products)

    def blocks(self) -> dict[str, Curvature]:
        """The diagonal block of every module that owns parameters, by its name."""
        return {name: self.block(some) for name, some in layers(self.ground.names).items()}

    def block_diagonal(self) -> BlockDiagonal:
        """The matrix without what couples one module's parameters to another's, on whole flat vectors."""
        ends = torch.tensor([0, *(p.numel() for p in self.params)]).cumsum(0)
        found: dict[str, tuple[Operator, Tensor]] = {}
        for name, block in self.blocks().items():
            held = matching(layers(self.ground.names)[name], self.ground.names)
            places = torch.cat([torch.arange(int(ends[i]), int(ends[i + 1])) for i in held])
            found[name] = (block, places.to(self.device))
        return BlockDiagonal(found, self.size)

    # -- the sum ------------------------------------------------------------------------------------------

    def _sum(self, vector: Tensor) -> Tensor:
        if self._keeps and self._kept is None:
            self._form()
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for operator, weight in self.terms():
            total += weight * operator.product(vector)
            self._exact = self._exact and operator.exact
            if isinstance(operator, Hessian) and operator.cramped:
                self._note(
                    "out of memory: products are differences of gradients, right to three digits or so"
                )
        return total

    def terms(self) -> Iterator[tuple[Operator, float]]:
        """Operator and weight of each part of the data, without decay."""
        if self._kept is not None:
            yield from self._kept
            return
        self.ground.formed += 1
        for part in self.ground.parts(self.kind):
            yield part.make(self.way), part.weight

    def _form(self) -> None:
        """Make the operator of every part, as long as their graphs fit."""
        self._kept = None
        kept, took = list[tuple[Operator, float]](), 0
        parts = self.ground.parts(self.kind)
        part = next(parts, None)
        while part is not None:
            following = next(parts, None)
            if not kept and following is not None and self.way == "reverse":
                with held() as bytes_of:
                    made = part.make(self.way)
                took = sum(bytes_of.values())
            else:
                made = part.make(self.way)
            kept.append((made, part.weight))
            self._exact = self._exact and made.exact
            if following is not None and took * (len(kept) + 1) > self.ground.memory:
                self._keeps = False
                self.reason = "the graphs of all parts would not fit into memory: each is formed anew"
                return
            part = following
        self._kept = kept
        self.ground.formed += 1

    def _within(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where there is no memory for it, of smaller parts."""
        return within_memory(ask, self._shrink)

    def _shrink(self) -> None:
        if self._kept is not None and len(self._kept) > 1:
            self._note("out of memory: graphs of the parts are formed anew with each product")
        else:
            self.ground.shrink()
        self._kept, self._keeps = None, False

    def _note(self, said: str) -> None:
        self.ground.notes[:] = [*(each for each in self.ground.notes if each != said), said]

    # -- the way ------------------------------------------------------------------------------------------

    def _choose(self, vector: Tensor) -> None:
        """Time the ways on the first part, those that the products to come can pay for."""
        several = self.ground.ways(self.kind)
        part = next(self.ground.parts(self.kind), None)
        if len(several) < 2 or part is None or not self.exact:
            self.reason = self.reason or "there is no other exact way"
            return
        count, products = len(self._kept or [0]), self._products or 1
        first = _time(lambda: self._kept[0][0] if self._kept else part.make("reverse"))
        wanted, each = _time(lambda: first[0].product(vector))
        others = self._worth(each * count, products)
        if others:  # the first one of a process is slow
            each = min(each, _time(lambda: first[0].product(vector))[1])
        tried = {"reverse": Timed(first[0], first[1], each)}
        for way in others:
            found = self._try(part, way, vector, wanted)
            if found is not None:
                tried[way] = found
        total = {way: self._price(way, one, count, products) for way, one in tried.items()}
        best: Any = min(total, key=lambda way: total[way])
        self.reason = _told(tried, products, kept=self._kept is not None)
        self.ground.chosen[self.kind] = best
        if best != self.way:
            self.way = best
            if self._kept is not None:
                self._form()

    def _worth(self, each: float, products: int) -> list[Way]:
        """The ways that may save more than it costs to try them."""
        others: list[Way] = [way for way in self.ground.ways(self.kind) if way != "reverse"]
        if self._kept is None:  # what cannot be kept need not be traced
            return [way for way in others if way == "forward" and products > 1]
        saved = _GAIN[self.kind] * products * each
        return others if saved > max(_TRACE[self.kind] * each, _SECONDS) else []

    def _try(self, part: Part, way: Way, vector: Tensor, wanted: Tensor) -> Timed | None:
        """A way on one part; None where the model does not go with it, or the product is another."""
        try:
            made, setup = _time(lambda: part.make(way))
            made.product(vector)  # the first one of a process loads code
            found, each = min((_time(lambda: made.product(vector)) for _ in range(2)), key=lambda one: one[1])
        except Exception as error:  # noqa: BLE001 (transforms raise whatever a user's forward makes them raise)
            if out_of_memory(error):
                self._note(f"out of memory: products by {way} were left out of the choice")
            return None
        near = 10 * torch.finfo(self.dtype).eps ** 0.5 * length(wanted)
        return Timed(made, setup, each) if length(found - wanted) <= near else None

    def _price(self, way: str, one: Timed, count: int, products: int) -> float:
        """Seconds that the products to come will take."""
        if self._kept is None:
            return products * (one.setup + one.each)
        return count * ((0 if way == "reverse" else one.setup) + products * one.each)


class Timed(NamedTuple):
    """An operator of one part, and its seconds."""

    operator: Operator
    setup: float
    each: float


def _told(tried: Mapping[str, Timed], products: int, *, kept: bool) -> str:
    if len(tried) == 1:
        return f"no other way can pay within {products} products"
    each = ", ".join(
        f"{way} {1e3 * (one.each + (0 if kept else one.setup)):.3g} ms a product"
        for way, one in tried.items()
    )
    traced = f", tracing {1e3 * tried['linearize'].setup:.3g} ms" if "linearize" in tried else ""
    return f"timed on one part: {each}{traced}; for {products} products"


def _time(ask: Callable[[], T]) -> tuple[T, float]:
    """What `ask` gives, and the seconds it took."""
    start = time.perf_counter()
    found = ask()
    if isinstance(found, Tensor) and found.is_cuda:
        torch.cuda.synchronize(found.device)
    return found, time.perf_counter() - start
