"""The exponential average of the weights over a run (Polyak and Juditsky 1992, in its EMA form)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY = 0.999
"""Decay of the average once it is warm; a window of 1000 steps."""


def decay_at(count: int) -> float:
    """Decay after `count` averaged steps: ``min(DECAY, (1 + count) / (10 + count))``.

    A constant decay would leave a short run's average at its first weights; this is the warm-up of
    TensorFlow's ExponentialMovingAverage (``num_updates``).
    """
    return min(DECAY, (1 + count) / (10 + count))


def averaged(model: nn.Module) -> AveragedModel:
    """A copy of `model` that follows its weights; ``update_parameters(model)`` after every step."""

    def follow(mean: list[Tensor], current: list[Tensor], count: Any) -> None:
        cast("Any", get_ema_multi_avg_fn)(decay_at(int(count)))(mean, current, count)

    return AveragedModel(model, multi_avg_fn=cast("Any", follow))
