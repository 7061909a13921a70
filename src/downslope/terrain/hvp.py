"""Hessian-vector products of a scalar closure, without ever forming the Hessian (Pearlmutter 1994).

The gradient's graph is built once and kept, so each further product is one backward pass through it:
reverse over reverse. Where a model has no second derivative (cuDNN's recurrent kernels, a custom backward
marked as once differentiable) the product is a central difference of gradients, and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import ModelError, ObjectiveError
from downslope.core.memory import out_of_memory
from downslope.terrain.ground.still import twice

Closure = Callable[[], Tensor]


class Hessian:
    """The Hessian of ``loss_fn()`` with respect to `params`, as a linear operator on flat vectors.

    Args:
        loss_fn: computes the loss from the parameters, anew at each call; a scalar. Batch norm and dropout
            are the caller's to freeze; random numbers are drawn from one state at every evaluation.
        params: parameters; those that need no gradient are left out, those that the loss does not reach
            have rows of zeros. For float64 hand over a float64 model.
        spare: whether products become differences, too, where there is no memory for the graph.

    Attributes:
        params: the parameters that count, in the order of the flat vector.
        size: length of a flat vector.
        loss: the loss at the parameters, float.
        gradient: flat, shape (size,).
        exact: False where products are differences of gradients, right to about 1e-3 in float32 and 1e-7 in
            float64.
        cramped: whether they are for want of memory.

    Raises:
        ModelError: no parameter needs a gradient.
        ObjectiveError: the closure does not give one scalar tensor.
    """

    def __init__(self, loss_fn: Closure, params: Sequence[Tensor], *, spare: bool = True) -> None:
        self.params = [p for p in params if p.requires_grad]
        if not self.params:
            raise ModelError("no parameter requires a gradient, so the loss has no curvature to measure")
        self.size = sum(p.numel() for p in self.params)
        self._loss_fn, self._spare = loss_fn, spare
        self._random_state = torch.get_rng_state()
        self._slopes: list[Tensor] = []
        self._kept: list[int] = []
        self.exact, self.cramped = True, False
        try:
            self._record()
        except (RuntimeError, NotImplementedError) as error:  # no second derivative, or no memory for it
            self._refuse(error)
            self._give_up()

    def product(self, vector: Tensor) -> Tensor:
        """``H v`` of a flat vector, shape (size,), in the parameters' dtype."""
        if self.exact:
            try:
                return self._reverse(vector)
            except (RuntimeError, NotImplementedError) as error:
                self._refuse(error)
                self._give_up()
        return self._difference(vector)

    def _record(self) -> None:
        """Evaluate once, and keep the graph of the gradient."""
        with self._conditions():
            loss = self._scalar()
            self.loss = loss.item()
            slopes = self._slopes_of(loss, create_graph=True)
        self.gradient = flat(slopes).detach()
        # A slope that is constant (the loss is linear in it) has no graph, and zero curvature.
        self._kept = [i for i, slope in enumerate(slopes) if slope.requires_grad]
        self._slopes = [slopes[i] for i in self._kept]
        if custom_backward(loss) and not self._verified():
            self._give_up()

    def _verified(self) -> bool:
        """Whether a product agrees with a difference of gradients.

        A custom backward that computes with what it saved, without a graph, loses curvature in silence.
        """
        draw = torch.Generator().manual_seed(0)
        direction = torch.randn(self.size, generator=draw, dtype=torch.float64).to(self.gradient)
        graph, differences = self._reverse(direction), self._difference(direction)
        if not bool(graph.isfinite().all()):
            return True  # a non-finite curvature is no fault of the method
        floor = torch.finfo(self.gradient.dtype).eps ** 0.5 * length(self.gradient) * length(direction)
        return length(graph - differences) <= 0.05 * length(differences) + floor

    def _refuse(self, error: Exception) -> None:
        if out_of_memory(error):
            if not self._spare:
                raise error
            self.cramped = True

    def _give_up(self) -> None:
        """Turn to differences; what goes wrong now is the user's closure and is raised as it is."""
        self.exact = False
        self._slopes = []
        self.loss, self.gradient = self._evaluate()

    def _reverse(self, vector: Tensor) -> Tensor:
        if not self._slopes:
            return torch.zeros_like(vector)
        parts = unflat(vector, self.params)
        with self._conditions():
            rows = torch.autograd.grad(
                self._slopes,
                self.params,
                grad_outputs=[parts[i] for i in self._kept],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
        return flat(rows)

    def _difference(self, vector: Tensor) -> Tensor:
        """``(g(p + h v) - g(p - h v)) / 2h``, h from the cube root of the precision, where errors balance."""
        norm = length(vector)
        if not norm:
            return torch.zeros_like(vector)
        kept = [p.detach().clone() for p in self.params]
        reach = max(1.0, length(flat(kept)))
        step: float = torch.finfo(self.gradient.dtype).eps ** (1 / 3) * reach / norm
        try:
            self._move(kept, vector, step)
            _, ahead = self._evaluate()
            self._move(kept, vector, -step)
            _, behind = self._evaluate()
        finally:
            for p, old in zip(self.params, kept, strict=True):
                p.data.copy_(old)
        return (ahead - behind) / (2 * step)

    def _move(self, start: list[Tensor], vector: Tensor, step: float) -> None:
        # Through .data, or the graphs that are alive (ours, or the caller's) would count as out of date.
        for p, old, v in zip(self.params, start, unflat(vector, self.params), strict=True):
            p.data.copy_(old + step * v)

    def _evaluate(self) -> tuple[float, Tensor]:
        with self._conditions():
            loss = self._scalar()
            slopes = self._slopes_of(loss, create_graph=False)
        return loss.item(), flat(slopes)

    def _scalar(self) -> Tensor:
        loss = cast(object, self._loss_fn())
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ObjectiveError(f"the loss has {what}: curvature needs one scalar; take its mean")
        return loss.reshape(())

    def _slopes_of(self, loss: Tensor, *, create_graph: bool) -> Sequence[Tensor]:
        if not loss.requires_grad:
            return [torch.zeros_like(p) for p in self.params]
        found = torch.autograd.grad(
            loss, self.params, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
        return [slope.to_dense() if slope.is_sparse else slope for slope in found]

    @contextlib.contextmanager
    def _conditions(self) -> Generator[None]:
        """One random state, gradients on, and plain attention, since the fused kernels stop at order 1."""
        devices = [p.device for p in self.params[:1] if p.device.type == "cuda"]
        with torch.random.fork_rng(devices=devices), twice():
            torch.set_rng_state(self._random_state)
            yield


def custom_backward(loss: Tensor) -> bool:
    """Whether a `torch.autograd.Function` of Python takes part in the loss."""
    from torch.autograd.function import BackwardCFunction

    seen: set[Any] = set()
    ahead: list[Any] = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction):
            return True
        seen.add(node)
        ahead += [following for following, _ in node.next_functions]
    return False


def length(vector: Tensor) -> float:
    """The Euclidean norm."""
    linalg: Any = torch.linalg
    return float(linalg.vector_norm(vector))


def flat(parts: Sequence[Tensor]) -> Tensor:
    """One vector of all entries, in order."""
    return torch.cat([part.reshape(-1).to(parts[0].device) for part in parts])


def unflat(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector cut into the shapes (and dtypes and devices) of `like`."""
    cut = torch.split(vector, [p.numel() for p in like])
    return [part.reshape(p.shape).to(p) for part, p in zip(cut, like, strict=True)]
