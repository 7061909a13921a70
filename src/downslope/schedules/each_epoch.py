"""One of torch's schedulers that is stepped after every epoch, in place of every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["EachEpoch", "each_epoch"]


class EachEpoch:
    """A factory of a scheduler whose steps are epochs. Make one with `each_epoch`."""

    def __init__(self, factory: Callable[[Any], Any]) -> None:
        self.factory = factory

    def __call__(self, optimizer: Any) -> Any:
        """The scheduler of `optimizer`."""
        return self.factory(optimizer)


def each_epoch(factory: Callable[[Any], Any]) -> EachEpoch:
    """``schedule=each_epoch(lambda optimizer: StepLR(optimizer, 30))``: 30 epochs, as most loops step it.

    Without it a recipe steps torch's schedulers after every step of the optimizer, as OneCycleLR wants it.

    Args:
        factory: from an optimizer to a scheduler of `torch.optim.lr_scheduler`.
    """
    return EachEpoch(factory)
