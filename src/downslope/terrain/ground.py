"""The ground a model stands on: its loss on fixed examples, as a function of its trained parameters.

Everything that measures the terrain or steps by its curvature asks a `Ground` and nothing else: for the loss,
the slope, and the curvature as an operator. It is a weighted mean over pieces of the data, so that what does
not fit into memory at once is summed piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.core.loss import Loss, Objective
from downslope.terrain.hvp import Closure, Hessian, flat, unflat
from downslope.terrain.operators.operator import Operator, Weighted


class Piece(NamedTuple):
    """A part of the data, on the model's device and in its dtype."""

    batch: Any
    weight: float
    """Its share of what the loss is a mean over; those of a ground sum to 1."""


class Ground:
    """A scalar function of parameters, as terrain: the mean of closures.

    Args:
        closures: ``(closure, weight)`` for each piece of the data; iterated anew at each evaluation. A
            closure computes its piece's loss from the parameters, anew at each call.
        params: The parameters; those that need no gradient are left out.
        names: Of `params`, for what is told of them; numbered where left out.

    Attributes:
        params: The parameters that count, in the order of the flat vector.
        names: Theirs.
        size: Length of a flat vector.
        notes: What was frozen or changed so that there is one function to speak of, a sentence each.

    Raises:
        ModelError: no parameter needs a gradient.
    """

    def __init__(
        self, closures: Iterable[tuple[Closure, float]], params: Sequence[Tensor], names: Sequence[str] = ()
    ) -> None:
        told = list(names) or [str(i) for i in range(len(params))]
        kept = [(p, name) for p, name in zip(params, told, strict=True) if p.requires_grad]
        if not kept:
            raise ModelError("no parameter requires a gradient, so the loss has no terrain to speak of")
        self.params: list[Tensor] = [p for p, _ in kept]
        self.names = [name for _, name in kept]
        self.size = sum(p.numel() for p in self.params)
        self.notes: list[str] = []
        self._closures = closures

    @classmethod
    def of_closure(cls, closure: Closure, params: Sequence[Tensor]) -> Ground:
        """The ground of one closure, such as a training loop has at hand."""
        return cls([(closure, 1.0)], params)

    def closures(self) -> Iterator[tuple[Closure, float]]:
        """Each piece's closure and weight."""
        yield from self._closures

    # -- the point ----------------------------------------------------------------------------------------

    def where(self) -> Tensor:
        """The parameters as one flat vector, a copy; shape (size,)."""
        return flat([p.detach() for p in self.params]).clone()

    def put(self, vector: Tensor) -> None:
        """Move to a flat vector of parameters."""
        for p, value in zip(self.params, unflat(vector, self.params), strict=True):
            p.data.copy_(value)

    # -- what can be asked --------------------------------------------------------------------------------

    def loss(self) -> float:
        """The loss here; NaN or infinite where it is."""
        with torch.no_grad():
            return math.fsum(weight * closure().item() for closure, weight in self.closures())

    def slope(self) -> tuple[float, Tensor]:
        """Loss and gradient here, the gradient flat, shape (size,)."""
        value, total = 0.0, torch.zeros(self.size, dtype=self.params[0].dtype, device=self.params[0].device)
        for closure, weight in self.closures():
            with torch.enable_grad():
                loss = closure()
                found = torch.autograd.grad(loss, self.params, allow_unused=True, materialize_grads=True)
            value += weight * loss.item()
            total += weight * flat([each.to_dense() if each.is_sparse else each for each in found]).detach()
        return value, total

    def hessian(self) -> Operator:
        """The Hessian here, as an operator on flat vectors; it stays that of this point only until `put`."""
        return Weighted([(Hessian(closure, self.params), weight) for closure, weight in self.closures()])


class ModelGround(Ground):
    """The ground of a model under an objective: what the loss is made of is known, so more can be asked.

    Args:
        model: In the mode in which it is to be measured.
        objective: What is gone down on, penalties among it.
        pieces: Of the data; iterated anew at each evaluation.

    Attributes:
        model: The model itself.
        objective: The objective.
        pieces: The data.
    """

    def __init__(self, model: nn.Module, objective: Objective, pieces: Iterable[Piece]) -> None:
        self.model, self.objective, self.pieces = model, objective, pieces
        named = list(model.named_parameters())
        super().__init__([], [p for _, p in named], [name for name, _ in named])

    def closures(self) -> Iterator[tuple[Closure, float]]:
        """Each piece's closure and weight."""
        for batch, weight in self.pieces:
            yield self._closure(batch), weight

    def run(self, batch: Any) -> Loss:
        """The objective of the model on a batch: value, output, target and terms, with their graph."""
        return self.objective(self.model, batch)

    def _closure(self, batch: Any) -> Callable[[], Tensor]:
        return lambda: self.run(batch).value
