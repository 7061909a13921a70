"""What a model puts out on one batch: as a map of its parameters, and as what the objective curves over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.errors import ObjectiveError
from downslope.core.loss import Loss, check_trainable
from downslope.core.memory import out_of_memory
from downslope.core.outputs import logits, with_logits
from downslope.terrain.ground.still import twice
from downslope.terrain.hvp import Hessian, custom_backward, flat, length, unflat
from downslope.terrain.operators.functional import Functional, Linear


class Outputs:
    """``z(w)``, the outputs of a model on a batch, and ``L(z)``, the objective of them.

    The graph of z is kept, and so is that of ``J^T u`` as a function of u, whose derivative is ``J v``:
    both products are backward passes. Where that graph has no derivative, ``J v`` is a central difference.

    Args:
        functional: Model, objective and parameters.
        batch: The examples.
        index: Their piece.
        way: How ``J v`` comes about; the other two of `Linear` keep the graph of z alone.

    Attributes:
        exact: False where ``J v`` is a difference of outputs: where the model has no second derivative, never
            for want of memory, which is raised.
        loss: What the objective gave, detached from the parameters.
        outputs: Tensors of the output that the objective reads, as leaves.
        slopes: The gradient of the objective by each of them.

    Raises:
        ObjectiveError: no gradient flows, or there is no output apart from the loss.
    """

    def __init__(
        self,
        functional: Functional,
        batch: Any,
        index: int = 0,
        way: Literal["reverse", "forward", "linearize"] = "reverse",
    ) -> None:
        self.model, self.objective, self.params = functional.inside, functional.objective, functional.params
        self.batch = batch
        self.size = sum(p.numel() for p in self.params)
        self.exact = True
        self._functional, self._index = functional, index
        with twice(), functional.still.look(index):
            output, self.target, self.args = self.objective.forward(self.model, batch)
            self._read(output)
        self._linear: Linear | None = None
        if way == "reverse":
            self._transposable()
        else:
            self._linear = Linear(
                lambda *w: functional.at(w, batch, index, self._taken), functional.here(), way
            )

    # -- the three factors --------------------------------------------------------------------------------

    def jacobian(self, vector: Tensor) -> list[Tensor]:
        """``J v`` for each output, v flat."""
        if self._linear is not None:
            return [each.detach() for each in self._linear.along(vector)]
        if self.exact:
            try:
                return self._reverse(vector)
            except (RuntimeError, NotImplementedError) as error:
                if out_of_memory(error):
                    raise
                self.exact = False
        return self._difference(vector)

    def transposed(self, parts: Sequence[Tensor]) -> Tensor:
        """``J^T u``, flat, u one tensor for each output."""
        found = torch.autograd.grad(
            self._graph, self.params, parts, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return flat([each.to_dense() if each.is_sparse else each for each in found])

    def curved(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """``H_out u``: the Hessian of the objective by the outputs, times u."""
        kept = [i for i, slope in enumerate(self._slopes) if slope.requires_grad]
        if not kept:  # linear in the output
            return [torch.zeros_like(each) for each in parts]
        return list(
            torch.autograd.grad(
                [self._slopes[i] for i in kept],
                self.outputs,
                [parts[i] for i in kept],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )

    def direct(self) -> Hessian | None:
        """The Hessian by the parameters at fixed outputs: of penalties, or of what reads the weights."""
        function = self.objective.function
        if not hasattr(function, "penalties") and not self.objective.wants_model:
            return None
        return Hessian(
            lambda: self._value([each.detach() for each in self.outputs]), self.params, spare=False
        )

    # -- how they come about ------------------------------------------------------------------------------

    def _read(self, output: Any) -> None:
        """Cut the output off the parameters, and put the objective on top of it."""
        self._whole, self._places = output, list[int]()
        if self.objective.function is None:
            self._own_loss(output)
            return
        every = batches.tensors(output)
        named = [] if any(each.requires_grad for each in every) else [logits(output)]
        self._places = [i for i, each in enumerate(every) if each.requires_grad]
        self._graph = [every[i] for i in self._places] or [each for each in named if each is not None]
        self.outputs = [each.detach().requires_grad_() for each in self._graph]
        self.loss = self._trained(self.outputs)
        check_trainable(self.model, self.loss)
        self._differentiate(self.loss.value)

    def _own_loss(self, output: Any) -> None:
        """A model that computes its loss itself: the loss hangs on its `logits`, or there is no output."""
        found, loss = logits(output), self.objective.of(output, self.target, self.args, self.model)
        check_trainable(self.model, loss)
        self._graph = [] if found is None or not found.requires_grad else [found]
        self.outputs, self.loss = self._graph, loss
        self._differentiate(loss.value)
        through = torch.autograd.grad(loss.value, self.params, retain_graph=True, materialize_grads=True)
        whole = flat(through)
        if not self._graph or not _near(self.transposed(self.slopes), whole):
            raise ObjectiveError(
                "objective=None: the model computes its loss itself, not from an output named logits alone, "
                "so there is no output to take this curvature at; give an objective, or take the Hessian"
            )

    def _differentiate(self, value: Tensor) -> None:
        self._slopes: list[Tensor] = []
        if self.outputs:
            self._slopes += torch.autograd.grad(
                value, self.outputs, create_graph=True, allow_unused=True, materialize_grads=True
            )
        self.slopes = [each.detach() for each in self._slopes]

    def valued(self, outputs: Sequence[Tensor], target: Any, args: tuple[Any, ...]) -> Tensor:
        """The objective, without penalties, of other examples' outputs and target."""
        return self.objective.of(self._with(outputs), target, args, self.model).value

    def _value(self, outputs: Sequence[Tensor]) -> Tensor:
        return self._functional.value(self._trained(outputs))

    def _trained(self, outputs: Sequence[Tensor]) -> Loss:
        """The objective, penalties among it, with `outputs` in the place of the model's."""
        return self.objective.trained(self._with(outputs), self.target, self.args, self.model)

    def _with(self, outputs: Sequence[Tensor]) -> Any:
        """The model's output with `outputs` in the place of its tensors."""
        output = self._whole
        if self._places:
            ahead = iter(outputs)
            every = iter(range(len(batches.tensors(output))))
            output = batches.map_tensors(
                lambda leaf: next(ahead) if next(every) in self._places else leaf, output
            )
        elif outputs:
            output = with_logits(output, lambda _: outputs[0])
        return output

    def _transposable(self) -> None:
        """Keep the graph of ``J^T u``."""
        self._dummies = [torch.zeros_like(each, requires_grad=True) for each in self._graph]
        try:
            with twice():
                rows = torch.autograd.grad(
                    self._graph,
                    self.params,
                    self._dummies,
                    create_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
        except (RuntimeError, NotImplementedError) as error:
            if out_of_memory(error):
                raise
            self.exact = False
            return
        self._kept = [i for i, row in enumerate(rows) if row.requires_grad]
        self._rows = [rows[i].to_dense() if rows[i].is_sparse else rows[i] for i in self._kept]
        if any(custom_backward(each) for each in self._graph):
            self.exact = self._verified()

    def _verified(self) -> bool:
        """Whether ``J v`` agrees with a difference: a custom backward may lose it in silence."""
        draw = torch.Generator().manual_seed(0)
        direction = torch.randn(self.size, generator=draw, dtype=torch.float64).to(self.params[0])
        graph, differences = (flat(each) for each in (self._reverse(direction), self._difference(direction)))
        if not bool(graph.isfinite().all()):
            return True
        floor = torch.finfo(graph.dtype).eps ** 0.5 * length(flat(self.outputs).detach()) * length(direction)
        return length(graph - differences) <= 0.05 * length(differences) + floor

    def _reverse(self, vector: Tensor) -> list[Tensor]:
        if not self._kept:
            return [torch.zeros_like(each) for each in self._graph]
        parts = unflat(vector, self.params)
        return list(
            torch.autograd.grad(
                self._rows,
                self._dummies,
                [parts[i] for i in self._kept],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        )

    def _difference(self, vector: Tensor) -> list[Tensor]:
        """``(z(w + h v) - z(w - h v)) / 2h``, h from the cube root of the precision."""
        norm = length(vector)
        if not norm:
            return [torch.zeros_like(each) for each in self._graph]
        kept = [p.detach().clone() for p in self.params]
        step = torch.finfo(kept[0].dtype).eps ** (1 / 3) * max(1.0, length(flat(kept))) / norm
        try:
            ahead, behind = (self._moved(kept, vector, sign * step) for sign in (1, -1))
        finally:
            for p, old in zip(self.params, kept, strict=True):
                p.data.copy_(old)
        return [(one - other) / (2 * step) for one, other in zip(ahead, behind, strict=True)]

    def _moved(self, start: Sequence[Tensor], vector: Tensor, step: float) -> list[Tensor]:
        for p, old, v in zip(self.params, start, unflat(vector, self.params), strict=True):
            p.data.copy_(old + step * v)
        with torch.no_grad(), self._functional.still.look(self._index):
            output, _, _ = self.objective.forward(self.model, self.batch)
        return [each.detach() for each in self._taken(output)]

    def _taken(self, output: Any) -> tuple[Tensor, ...]:
        """The tensors of another output of the model that stand where `outputs` do."""
        if self._places:
            every = batches.tensors(output)
            return tuple(every[i] for i in self._places)
        found = logits(output) if self._graph else None
        return () if found is None else (found,)


def _near(one: Tensor, other: Tensor) -> bool:
    scale = max(length(one), length(other))
    return length(one - other) <= 100 * torch.finfo(one.dtype).eps ** 0.75 * scale
