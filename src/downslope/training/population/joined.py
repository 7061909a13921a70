"""The objective of every member from one look at the examples of all, where it is a plain mean over them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from downslope.objectives.absolute_error import absolute_error
from downslope.objectives.configured import Configured
from downslope.objectives.examples import examples
from downslope.objectives.huber import huber
from downslope.objectives.logistic import logistic
from downslope.objectives.squared_error import squared_error

__all__ = ["JoinedMeans"]

_MEANS: tuple[Any, ...] = (
    squared_error, absolute_error, huber, logistic, functional.mse_loss, functional.l1_loss,
    functional.smooth_l1_loss, functional.huber_loss, functional.binary_cross_entropy_with_logits,
)  # fmt: skip
"""Means over entries in which no entry weighs by what the others are."""

_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss)


class JoinedMeans:
    """``means(output, target) -> (M,)``: what the objective gives of each member, up to the rounding of sums.

    Args:
        objective: Of which `runs` says that it can be joined, without its penalties.
    """

    def __init__(self, objective: Any) -> None:
        self._each = examples(objective)

    @staticmethod
    def runs(objective: Any) -> bool:
        """Whether `objective` is a mean over entries, each of which counts the same."""
        settings: dict[str, Any] = {}
        if isinstance(objective, Configured):
            objective, settings = objective.function, dict(objective.settings)
        if settings.get("weight") is not None or settings.get("reduction", "mean") != "mean":
            return False
        if isinstance(objective, nn.Module):
            return (
                type(objective) in _MODULES
                and objective.reduction == "mean"
                and getattr(objective, "weight", None) is None
            )
        return any(objective is each for each in _MEANS)

    def entries(self, output: Tensor, target: Tensor, *, shared: bool) -> Tensor:
        """The losses of all examples, (M, B), whose means are the objectives.

        Args:
            output: (M, B, ...).
            target: (M, B, ...), or (B, ...) where it is `shared`.
            shared: Whether all members have the same targets.
        """
        members = len(output)
        if shared:
            target = target.expand(members, *target.shape)
        losses = self._each(output.flatten(0, 1), target.flatten(0, 1))
        return torch.unflatten(losses, 0, (members, -1))

    def __call__(self, output: Tensor, target: Tensor, *, shared: bool) -> Tensor:
        """The means of `entries`, (M,)."""
        return self.entries(output, target, shared=shared).mean(1)
