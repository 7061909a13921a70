"""A training loop's closure as a function that a method calls as often as it looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from downslope.core.errors import ObjectiveError


class Looks:
    """The loss of a closure, which may call ``loss.backward()`` as closures of `torch.optim.LBFGS` do.

    The method takes the gradient by itself and needs the graph, so a backward inside the closure is left out.

    Args:
        closure: Returns the loss.

    Raises:
        ObjectiveError: when called, where the loss is no scalar tensor.
    """

    def __init__(self, closure: Callable[[], Any]) -> None:
        self.closure = closure
        self._backward: bool | None = None

    def __call__(self) -> Tensor:
        """The loss, with its graph."""
        if self._backward is False:
            loss = self.closure()
        else:
            with _Held() as held:
                loss = self.closure()
            self._backward = held.met
        if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
            what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ObjectiveError(
                f"the closure returned {what}: it must return the loss, one real number with its graph "
                "(loss, not loss.item())"
            )
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise ObjectiveError(
                "the loss that the closure returned has no graph, so it hangs on no parameter: leave "
                "out .detach(), .item() and no_grad on its way"
            )
        return loss.reshape(()) if loss.dim() else loss


class _Held(TorchFunctionMode):
    """Leaves out calls of ``Tensor.backward``."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func is cast("Any", torch.Tensor.backward):
            self.met = True
            return None
        return func(*args, **(kwargs or {}))
