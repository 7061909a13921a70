"""A model's loss and outputs as functions of its parameters, for derivatives that run forward."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from downslope.core.loss import Loss, Objective
from downslope.terrain.ground.still import Still, twice
from downslope.terrain.hvp import flat, unflat

Tensors = tuple[Tensor, ...]


class Functional(nn.Module):
    """``f(w)`` of a model on a batch, with every parameter as an argument and buffers that are copies.

    Args:
        model: In its mode.
        objective: What is gone down on.
        value: The scalar of what the objective gave.
        names: Of the parameters that f is taken as a function of.
        params: Theirs.
        still: What is the same at every look.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        value: Callable[[Loss], Tensor],
        names: Sequence[str],
        params: Sequence[Tensor],
        still: Still,
    ) -> None:
        super().__init__()
        self.inside = model
        self.objective, self.value, self.still = objective, value, still
        self.params = list(params)
        self.names = [f"inside.{name}" for name in names]

    def forward(self, batch: Any, read: Callable[[Any], Any] | None) -> Any:
        """The loss, or what `read` takes of the output."""
        if read is None:
            return self.value(self.objective(self.inside, batch))
        return read(self.objective.forward(self.inside, batch)[0])

    def at(self, params: Tensors, batch: Any, index: int, read: Callable[[Any], Any] | None = None) -> Any:
        """``f(params)`` on piece `index`.

        Args:
            params: In the order of `names`.
            batch: Its examples.
            index: Whose random numbers are drawn.
            read: Takes tensors of the output; None for the loss.
        """
        held: dict[str, Tensor] = dict(zip(self.names, params, strict=True))
        with twice(), _Plain(), self.still.look(index):
            moving = {f"inside.{name}": value for name, value in self.still.start().items()}
            return torch.func.functional_call(self, {**held, **moving}, (batch, read))

    def here(self) -> Tensors:
        """The parameters, detached."""
        return tuple(p.detach() for p in self.params)


class _Plain(TorchFunctionMode):
    """Squared errors as squares of differences.

    To trace the derivative of torch's own kernel ends the process (torch 2.13): the one of 86 layers and
    losses tried that does.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if func is functional.mse_loss:
            return _squares(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _squares(
    output: Tensor, target: Tensor, *_: Any, reduction: str = "mean", weight: Tensor | None = None, **__: Any
) -> Tensor:
    """As `torch.nn.functional.mse_loss`."""
    found = (output - target) ** 2
    found = found if weight is None else found * weight
    if reduction == "none":
        return found
    if reduction == "sum":
        return found.sum()
    return found.mean() if weight is None else found.sum() / weight.expand_as(found).sum()


class Linear:
    """The derivative of a function of the parameters, at one point, along flat vectors.

    Args:
        function: From the parameters to one tensor or a tuple of them.
        at: Where; one tensor for each parameter.
        way: "forward" evaluates the function anew with each product; "linearize" traces it once and keeps
            what does not hang on the direction.
    """

    def __init__(
        self, function: Callable[..., Any], at: Tensors, way: Literal["forward", "linearize"]
    ) -> None:
        self._function, self._at = function, at
        self._traced: Callable[..., Any] | None = None
        if way == "linearize":
            with _quiet():
                self._traced = torch.func.linearize(function, *at)[1]

    def along(self, vector: Tensor) -> tuple[Tensor, ...]:
        """``Df(w) v``, a tensor for each that the function returns."""
        parts = tuple(unflat(vector, self._at))
        if self._traced is not None:
            with torch.no_grad():
                found = self._traced(*parts)
        else:
            with _quiet():
                found: Any = torch.func.jvp(self._function, self._at, parts)[1]
        return tuple(found)


class ForwardOverReverse:
    """The Hessian of a loss, as the derivative of its gradient along a vector.

    Args:
        functional: The loss as a function of the parameters.
        batch: The examples.
        index: Their piece.
        way: As in `Linear`.
    """

    exact = True

    def __init__(
        self, functional: Functional, batch: Any, index: int, way: Literal["forward", "linearize"]
    ) -> None:
        every = tuple(range(len(functional.params)))

        def loss(*params: Tensor) -> Tensor:
            return functional.at(params, batch, index)

        self._gradient = Linear(torch.func.grad(loss, argnums=every), functional.here(), way)
        self.size = sum(p.numel() for p in functional.params)

    def product(self, vector: Tensor) -> Tensor:
        """``H v``, shape (size,)."""
        return flat(self._gradient.along(vector)).detach()


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Torch warns of its own scripts when it traces; the model's own warnings were seen at the first look."""
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        yield
