"""The ground a model stands on: its loss on fixed examples, as a function of its trained parameters.

Everything that measures the terrain or steps by its curvature asks a `Ground` and nothing else: for the loss,
the slope, and the curvature as an operator. It is a weighted mean over pieces of the data, so that what does
not fit into memory at once is summed piece by piece.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError
from downslope.core.loss import Loss, Objective
from downslope.terrain.hvp import Closure, Hessian, flat, unflat
from downslope.terrain.operators.fisher import Fisher
from downslope.terrain.operators.gauss_newton import GaussNewton
from downslope.terrain.operators.operator import Diagonal, Operator, Weighted
from downslope.terrain.operators.outputs import Outputs
from downslope.terrain.still import Still


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
        still: What has to be the same at every look; left out, random numbers of a seed drawn from torch's
            generator.

    Attributes:
        params: The parameters that count, in the order of the flat vector.
        names: Theirs.
        size: Length of a flat vector.
        notes: What was frozen or changed so that there is one function to speak of, a sentence each.
        decay: Strengths of an l2 term ``sum_i decay_i x_i^2 / 2`` that belongs to the function, flat, which a
            method with `weight_decay` sets; None for none.
        fixed: Whether who hands it to a method will hand it over again, as the same function.

    Raises:
        ModelError: no parameter needs a gradient.
    """

    def __init__(
        self,
        closures: Iterable[tuple[Closure, float]],
        params: Sequence[Tensor],
        names: Sequence[str] = (),
        still: Still | None = None,
    ) -> None:
        told = list(names) or [str(i) for i in range(len(params))]
        kept = [(p, name) for p, name in zip(params, told, strict=True) if p.requires_grad]
        if not kept:
            raise ModelError("no parameter requires a gradient, so the loss has no terrain to speak of")
        self.params: list[Tensor] = [p for p, _ in kept]
        self.names = [name for _, name in kept]
        self.size = sum(p.numel() for p in self.params)
        self.notes: list[str] = []
        self.decay: Tensor | None = None
        self.fixed = False
        self._closures = closures
        self.still = Still(None, int(torch.randint(1 << 31, ()))) if still is None else still

    @classmethod
    def of_closure(cls, closure: Closure, params: Sequence[Tensor]) -> Ground:
        """The ground of one closure, such as a training loop has at hand.

        It draws one seed from torch's generator, and the same random numbers at each look: with dropout it
        is one function, another one for each ground.
        """
        return cls([(closure, 1.0)], params)

    def closures(self) -> Iterator[tuple[Closure, float]]:
        """Each piece's closure and weight; a closure draws the same random numbers at each call."""
        for index, (closure, weight) in enumerate(self._closures):
            yield functools.partial(self._looked, closure, index), weight

    def _looked(self, closure: Closure, index: int) -> Tensor:
        with self.still.look(index):
            return closure()

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
            return self._held() + math.fsum(weight * closure().item() for closure, weight in self.closures())

    def slope(self) -> tuple[float, Tensor]:
        """Loss and gradient here, the gradient flat, shape (size,)."""
        value, total = 0.0, torch.zeros(self.size, dtype=self.params[0].dtype, device=self.params[0].device)
        for closure, weight in self.closures():
            with torch.enable_grad():
                loss = closure()
                found = torch.autograd.grad(loss, self.params, allow_unused=True, materialize_grads=True)
            value += weight * loss.item()
            total += weight * flat([each.to_dense() if each.is_sparse else each for each in found]).detach()
        if self.decay is not None:
            total += self.decay * self.where()
        return value + self._held(), total

    def hessian(self) -> Operator:
        """The Hessian here, as an operator on flat vectors; it stays that of this point only until `put`."""
        return self._with_decay(
            [(Hessian(closure, self.params), weight) for closure, weight in self.closures()]
        )

    def _held(self) -> float:
        """The l2 term here."""
        return 0.0 if self.decay is None else 0.5 * float((self.decay * self.where().square()).sum())

    def _with_decay(self, terms: list[tuple[Operator, float]]) -> Operator:
        """The sum of operators, with the curvature of the l2 term."""
        return Weighted(terms if self.decay is None else [*terms, (Diagonal(self.decay), 1.0)])


class ModelGround(Ground):
    """The ground of a model under an objective: what the loss is made of is known, so more can be asked.

    The model is measured in the mode that it is in. In training mode every look draws the same dropout masks,
    and running statistics move once for each piece, however often the ground is asked: so it is what a
    method that steps by curvature looks at in training, ``ModelGround(model, objective, [Piece(batch, 1.0)],
    seed=step)``.

    Args:
        model: In the mode in which it is to be measured.
        objective: What is gone down on, penalties among it.
        pieces: Of the data; iterated anew at each evaluation.
        seed: Of the random numbers that the model draws; the global generators are left alone.

    Attributes:
        model: The model itself.
        objective: The objective.
        pieces: The data.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, pieces: Iterable[Piece], *, seed: int = 0
    ) -> None:
        self.model, self.objective, self.pieces = model, objective, pieces
        named = list(model.named_parameters())
        super().__init__([], [p for _, p in named], [name for name, _ in named], Still(model, seed))

    def closures(self) -> Iterator[tuple[Closure, float]]:
        """Each piece's closure and weight."""
        for index, (batch, weight) in enumerate(self.pieces):
            yield functools.partial(self._value, batch, index), weight

    def run(self, batch: Any, index: int = 0) -> Loss:
        """The objective of the model on a batch: value, output, target and terms, with their graph.

        Args:
            batch: Of any examples.
            index: The piece whose random numbers it draws.
        """
        with self.still.look(index):
            return self.objective(self.model, batch)

    def _value(self, batch: Any, index: int) -> Tensor:
        return self.run(batch, index).value

    # -- what only a model has ----------------------------------------------------------------------------

    def gauss_newton(self) -> Operator:
        """The generalised Gauss-Newton matrix here, ``J^T H_out J``; `GaussNewton` says more.

        Raises:
            ObjectiveError: there is no output apart from the loss, or no gradient at all.
        """
        return self._with_decay([(GaussNewton(each), weight) for each, weight in self._outputs()])

    def fisher(self, kind: Literal["true", "empirical"] = "true") -> Operator:
        """The Fisher information matrix here; `Fisher` says what of.

        Args:
            kind: "true", the expectation over targets that the model itself would draw, or "empirical", the
                second moment of the gradients of the examples with their own targets.

        Raises:
            ObjectiveError: the objective is no negative log-likelihood ("true"), or the examples cannot be
                told apart ("empirical").
            InputError: another kind.
        """
        return Weighted([(Fisher(each, kind), weight) for each, weight in self._outputs()])

    def _outputs(self) -> Iterator[tuple[Outputs, float]]:
        for index, (batch, weight) in enumerate(self.pieces):
            look = functools.partial(self.still.look, index)
            yield Outputs(self.model, self.objective, batch, self.params, look), weight
