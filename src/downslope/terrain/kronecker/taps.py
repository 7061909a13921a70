"""Inputs and outputs of layers, caught in one forward pass by hooks that are always taken away."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from downslope.terrain.kronecker.layers import Layer


class Call(NamedTuple):
    """One use of a layer."""

    module: nn.Module
    entered: Tensor
    """Detached."""
    left: GradientEdge
    """Where in the graph its output stands: the tensor itself may be changed in place afterwards."""
    shape: torch.Size
    """Of the output."""


class Taps:
    """Catches the calls of `layers` inside a ``with``; a call without a gradient is none.

    Attributes:
        calls: For each layer, in the order of its calls.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self._hooks: list[Any] = []
        self.calls: list[list[Call]] = [[] for _ in layers]

    def __enter__(self) -> Taps:
        for layer, calls in zip(self.layers, self.calls, strict=True):
            for module in layer.modules:
                self._hooks.append(module.register_forward_hook(_catcher(calls), with_kwargs=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def slopes(self, outputs: Sequence[Tensor], directions: Sequence[Tensor]) -> list[list[Tensor]]:
        """``directions`` through the Jacobian of `outputs`, at what each call gave; the graph is kept."""
        every = [call for calls in self.calls for call in calls]
        if not every:
            return [[] for _ in self.calls]
        edges: Any = [call.left for call in every]
        grad: Any = torch.autograd.grad
        found: tuple[Tensor | None, ...] = grad(
            outputs, edges, directions, retain_graph=True, allow_unused=True
        )
        filled: list[Tensor] = [
            call.entered.new_zeros(call.shape) if each is None else each
            for call, each in zip(every, found, strict=True)
        ]
        left = iter(filled)
        return [[next(left) for _ in calls] for calls in self.calls]


def _catcher(calls: list[Call]) -> Any:
    def catch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        entered = args[0] if args else kwargs.get("input")
        if not isinstance(output, Tensor) or not output.requires_grad or not isinstance(entered, Tensor):
            return None
        calls.append(Call(module, entered.detach(), get_gradient_edge(output), output.shape))
        # What changes a view in place goes round its edge.
        return output.clone() if output._is_view() else None  # pyright: ignore[reportPrivateUsage]

    return catch
