"""The ground a model stands on: its loss on fixed examples, as a function of its trained parameters.

Everything that measures the terrain or steps by its curvature asks a `Ground` and nothing else: for the loss,
the slope, and the curvature as an operator. It is a weighted mean over pieces of the data, so that what does
not fit into memory at once is summed piece by piece.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from downslope.core import batches
from downslope.core.errors import DataError, ModelError
from downslope.core.loss import Loss, Objective, check_trainable
from downslope.core.memory import within_memory
from downslope.terrain.ground.parts import Piece, Share, Weighing, cut, weighed
from downslope.terrain.ground.still import Still
from downslope.terrain.hvp import Closure, Hessian, flat, unflat
from downslope.terrain.operators.blocks import layers, matching
from downslope.terrain.operators.curvature import KEPT, Curvature, Kind, Part, Way
from downslope.terrain.operators.fisher import Fisher, check_kind
from downslope.terrain.operators.functional import ForwardOverReverse, Functional
from downslope.terrain.operators.gauss_newton import GaussNewton
from downslope.terrain.operators.operator import Operator
from downslope.terrain.operators.outputs import Outputs

__all__ = ["Ground", "ModelGround", "Piece"]

T = TypeVar("T")


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
        formed: How often the graph of a curvature was formed, which is a loss with its gradient each time.
        fixed: Whether who hands it to a method will hand it over again, as the same function.
        told: Whether a method that steps here says by itself what it meets, since nobody else does.
        memory: Bytes of graphs that an operator may keep between products.
        chosen: The way that was found cheapest, by kind of curvature; later operators take it as it is.

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
        self.formed = 0
        self.fixed = self.told = False
        self.memory = KEPT
        self.chosen: dict[str, Way] = {}
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

    def restricted(self, names: str | Sequence[str]) -> Self:
        """The same ground over some of its parameters, the others held where they are.

        Args:
            names: Of parameters or modules, or patterns such as ``"head.*"``.

        Raises:
            InputError: a name that fits nothing.
        """
        kept = matching([names] if isinstance(names, str) else names, self.names)
        made = copy.copy(self)
        made.params, made.names = [self.params[i] for i in kept], [self.names[i] for i in kept]
        made.size = sum(p.numel() for p in made.params)
        made.chosen = {}
        if self.decay is not None:
            each = torch.split(self.decay, [p.numel() for p in self.params])
            made.decay = torch.cat([each[i] for i in kept])
        return made

    def layers(self) -> dict[str, list[str]]:
        """Names of the parameters by the module that owns them; "" for those of the model itself."""
        return layers(self.names)

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """A flat vector cut into tensors of the parameters' shapes, by their names."""
        return dict(zip(self.names, unflat(vector, self.params), strict=True))

    # -- what can be asked --------------------------------------------------------------------------------

    def loss(self) -> float:
        """The loss here; NaN or infinite where it is."""
        return self.within(self._loss)

    def slope(self) -> tuple[float, Tensor]:
        """Loss and gradient here, the gradient flat, shape (size,)."""
        return self.within(self._slope)

    def hessian(self, products: int | None = None) -> Curvature:
        """The Hessian here, as an operator on flat vectors; it stays that of this point only until `put`.

        Args:
            products: How many are expected: with it the cheapest way is found by timing, as `Curvature` says.
        """
        return Curvature(self, "hessian", products)

    def _loss(self) -> float:
        with torch.no_grad():
            return self._held() + math.fsum(weight * closure().item() for closure, weight in self.closures())

    def _slope(self) -> tuple[float, Tensor]:
        value, gradient = self._bare()
        if self.decay is None:
            return value, gradient
        return value + self._held(), gradient + self.decay * self.where()

    def _bare(self) -> tuple[float, Tensor]:
        """Loss and gradient here, without the l2 term."""
        value, total = 0.0, torch.zeros(self.size, dtype=self.params[0].dtype, device=self.params[0].device)
        for loss, gradient, weight in self.slopes():
            value += weight * loss
            total += weight * gradient
        return value, total

    def slopes(self) -> Iterator[tuple[float, Tensor, float]]:
        """Loss, gradient and weight of each piece, without decay: how they differ is the noise of a batch."""
        for closure, weight in self.closures():
            with torch.enable_grad():
                loss = closure()
                found = torch.autograd.grad(loss, self.params, allow_unused=True, materialize_grads=True)
            gradient = flat([each.to_dense() if each.is_sparse else each for each in found]).detach()
            yield loss.item(), gradient, weight

    def _held(self) -> float:
        """The l2 term here."""
        return 0.0 if self.decay is None else 0.5 * float((self.decay * self.where().square()).sum())

    # -- what operators ask -------------------------------------------------------------------------------

    def parts(self, kind: Kind) -> Iterator[Part]:
        """Operator and weight of every part of the data."""
        del kind
        for closure, weight in self.closures():
            yield Part(functools.partial(self._of_closure, closure), weight)

    def ways(self, kind: Kind) -> Sequence[Way]:
        """Ways to products that there are, the first one certain; a closure has its graph alone."""
        del kind
        return ("reverse",)

    def shrink(self) -> None:
        """Take smaller parts from now on.

        Raises:
            ModelError: what is given as a closure cannot be cut.
        """
        raise ModelError("out of memory: the loss is one closure, which cannot be cut; give it less data")

    def _of_closure(self, closure: Closure, way: Way) -> Operator:
        del way
        return Hessian(closure, self.params)

    def within(self, ask: Callable[[], T]) -> T:
        """What `ask` gives; where there is no memory for it, of smaller parts."""
        return within_memory(ask, self.shrink)


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
        chunk: Examples that are looked at together at most; None for whole pieces. Where there is no memory
            for that many they are halved, and `notes` says so.
        weighing: How the objective of a piece comes about from parts of it.
    """

    def __init__(
        self, model: nn.Module, objective: Objective, pieces: Iterable[Piece], *, seed: int = 0
    ) -> None:
        self.model, self.objective, self.pieces = model, objective, pieces
        self.chunk: int | None = None
        self.weighing: Weighing | None = None
        self._largest = 0
        named = list(model.named_parameters())
        super().__init__([], [p for _, p in named], [name for name, _ in named], Still(model, seed))

    def closures(self) -> Iterator[tuple[Closure, float]]:
        """Each part's closure and weight."""
        for index, piece in self.shares():
            yield functools.partial(self._value, piece, index), piece.weight

    def run(self, batch: Any, index: int = 0) -> Loss:
        """The objective of the model on a batch: value, output, target and terms, with their graph.

        Args:
            batch: Of any examples.
            index: The part whose random numbers it draws.
        """
        with self.still.look(index):
            return self.objective(self.model, batch)

    # -- what only a model has ----------------------------------------------------------------------------

    def gauss_newton(self, products: int | None = None) -> Operator:
        """The generalised Gauss-Newton matrix here, ``J^T H_out J``; `GaussNewton` says more.

        Args:
            products: How many are expected, as of `hessian`.

        Raises:
            ObjectiveError: there is no output apart from the loss, or no gradient at all.
        """
        if self.objective.wants_model:
            self._note(
                "the objective reads the model itself: what hangs on the weights past the output enters the "
                "Gauss-Newton matrix with its own Hessian, what couples it to the output does not"
            )
        return Curvature(self, "gauss_newton", products)

    def fisher(self, kind: Literal["true", "empirical"] = "true", products: int | None = None) -> Curvature:
        """The Fisher information matrix here; `Fisher` says what of.

        Args:
            kind: "true", the expectation over targets that the model itself would draw, or "empirical", the
                second moment of the gradients of the examples with their own targets.
            products: How many are expected, as of `hessian`.

        Raises:
            ObjectiveError: the objective is no negative log-likelihood ("true"), or the examples cannot be
                told apart ("empirical").
            InputError: another kind.
        """
        check_kind(kind)
        if kind == "empirical" and any(
            isinstance(each, _BatchNorm) and each.training for each in self.model.modules()
        ):
            self._note(
                "batch norm in training mode couples the examples: the empirical Fisher matrix takes each "
                "one's gradient through its own output alone"
            )
        return Curvature(self, kind, products)

    def parts(self, kind: Kind) -> Iterator[Part]:
        """Operator and weight of every part of the data."""
        for index, piece in self.shares():
            yield Part(functools.partial(self._operator, kind, piece, index), piece.weight)

    def ways(self, kind: Kind) -> Sequence[Way]:
        """All of them; each is checked against the first before it is taken."""
        del kind
        return ("reverse", "linearize", "forward")

    def shrink(self) -> None:
        """Halve the examples that are looked at together.

        Raises:
            ModelError: it is one already.
        """
        before = min(self.chunk or self._largest, self._largest) or 1
        if before == 1:
            raise ModelError(
                "out of memory: there is not enough for a single example; take a smaller model or more memory"
            )
        self.cut_to(before // 2)

    def cut_to(self, rows: int) -> None:
        """Look at `rows` examples together at most, since there is no memory for more; `notes` says so."""
        self.chunk = rows
        said = f"out of memory: parts of {rows} examples are looked at, one after the other"
        self.notes[:] = [each for each in self.notes if "are looked at, one after the other" not in each]
        self.notes.append(said)

    def _note(self, said: str) -> None:
        if said not in self.notes:
            self.notes.append(said)

    def _operator(self, kind: Kind, piece: Share, index: int, way: Way) -> Operator:
        if kind == "hessian" and way == "reverse":
            return Hessian(functools.partial(self._value, piece, index), self.params, spare=False)
        functional = Functional(
            self.model, self.objective, functools.partial(weighed, piece.penalty), self.names, self.params,
            self.still,
        )  # fmt: skip
        if kind == "hessian":
            return ForwardOverReverse(
                functional, piece.batch, index, "forward" if way == "forward" else "linearize"
            )
        outputs = Outputs(functional, piece.batch, index, way)
        if kind == "gauss_newton":
            return GaussNewton(outputs)
        made = Fisher(outputs, kind)
        if made.note is not None:
            self._note(made.note)
        return made

    def _value(self, piece: Share, index: int) -> Tensor:
        loss = self.run(piece.batch, index)
        if torch.is_grad_enabled():
            check_trainable(self.model, loss)
        return weighed(piece.penalty, loss)

    def shares(self) -> Iterator[tuple[int, Share]]:
        """Parts in order; those in which nothing counts have no value and are left out."""
        for index, piece in enumerate(part for whole in self.pieces for part in self._parts_of(whole)):
            if piece.weight:
                yield index, piece

    def _parts_of(self, piece: Piece) -> Iterator[Share]:
        penalty: float = getattr(self.pieces, "penalty", 1.0)
        try:
            rows = batches.length(piece.batch)
        except DataError:  # not cut along a first dimension
            rows = 1
        self._largest = max(self._largest, rows)
        if self.chunk is None or rows <= self.chunk:
            return iter((Share(*piece, penalty),))
        if self.weighing is None:
            self.weighing = Weighing(self.objective, self.model)
            self.weighing.choose(self._risk, piece.batch)
        return cut(piece, self.chunk, penalty, self.weighing)

    def _risk(self, batch: Any) -> float:
        with torch.no_grad():
            return float(self.run(batch).risk)
