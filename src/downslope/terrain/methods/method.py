"""What a method that needs more than one gradient a step is, and how a training loop calls it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import ModelError
from downslope.terrain.ground import Ground


class Step(NamedTuple):
    """What one step did."""

    loss: float
    """Before the step."""
    evaluations: int
    """Losses and gradients that it took, a gradient with its loss counted once."""
    products: int
    """Products with a curvature operator."""
    accepted: bool = True
    """False where no point below was found, and the parameters stay as they were."""
    said: str = ""
    """Why, or what was met on the way: negative curvature, a line search that failed."""


class Method(torch.optim.Optimizer):
    """An optimizer that asks the ground for losses, slopes and curvature, as often as it needs.

    ``step(closure)`` works in any loop, as for `torch.optim.LBFGS`: the closure returns the loss, and need
    not call backward. ``step(ground)`` is what `downslope.fit` calls, and what methods need that look into
    the model (Gauss-Newton, natural gradient, K-FAC).

    Args:
        params: Parameters, of one group; methods that solve a system have one for all.
        defaults: Settings, which become entries of the group.

    Attributes:
        batch: "full" where every step should see the whole training set, "large" where it needs a batch
            large enough that its curvature is that of the whole; None where any will do.
        last: What the last step did.
    """

    batch: ClassVar[str | None] = "full"
    source: ClassVar[str] = ""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        if len(self.param_groups) > 1:
            raise ModelError(
                f"{type(self).__name__} takes one group of parameters: its step is solved for all of them"
            )
        self.last: Step | None = None

    def step(self, closure: Callable[[], Tensor] | Ground | None = None) -> float:  # type: ignore[override]
        """One step; the loss before it.

        Args:
            closure: Computes the loss anew at each call, or the ground itself.

        Raises:
            ModelError: neither, or a method that needs the model was given a closure.
        """
        if closure is None:
            raise ModelError(
                f"{type(self).__name__}.step() evaluates the loss several times: give it a closure that "
                "returns the loss, step(lambda: loss_fn(model(x), y))"
            )
        params = [p for group in self.param_groups for p in group["params"]]
        ground = closure if isinstance(closure, Ground) else Ground.of_closure(closure, params)
        self.last = self.move(ground)
        return self.last.loss

    @abstractmethod
    def move(self, ground: Ground) -> Step:
        """Step on `ground`, whose parameters are this method's."""
