"""Schedules: pure functions from the steps already made to a factor of the learning rate. They compose.

Every one takes the length of the run first, so that a name is enough to make it.

    >>> from downslope.schedules import cosine, warmup
    >>> rate = warmup(cosine(900), 100)
    >>> [round(rate(t), 3) for t in (0, 99, 100, 550, 1000)]
    [0.01, 1.0, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.schedules.constant import constant
    from downslope.schedules.cosine import cosine
    from downslope.schedules.cosine_restarts import cosine_restarts
    from downslope.schedules.cyclic import cyclic
    from downslope.schedules.each_epoch import EachEpoch, each_epoch
    from downslope.schedules.exponential import exponential
    from downslope.schedules.inverse_sqrt import inverse_sqrt
    from downslope.schedules.join import join
    from downslope.schedules.multiply import multiply
    from downslope.schedules.one_cycle import one_cycle, one_cycle_momentum
    from downslope.schedules.plateau import Plateau, plateau
    from downslope.schedules.polynomial import polynomial
    from downslope.schedules.schedule import Schedule
    from downslope.schedules.stairs import stairs
    from downslope.schedules.step import step
    from downslope.schedules.warmup import warmup
    from downslope.schedules.warmup_stable_decay import warmup_stable_decay

__all__ = [
    "EachEpoch",
    "Plateau",
    "Schedule",
    "constant",
    "cosine",
    "cosine_restarts",
    "cyclic",
    "each_epoch",
    "exponential",
    "inverse_sqrt",
    "join",
    "multiply",
    "one_cycle",
    "one_cycle_momentum",
    "plateau",
    "polynomial",
    "stairs",
    "step",
    "warmup",
    "warmup_stable_decay",
]

lazily(
    __name__,
    {
        "constant": "constant",
        "cosine": "cosine",
        "cyclic": "cyclic",
        "cosine_restarts": "cosine_restarts",
        "each_epoch": "EachEpoch each_epoch",
        "one_cycle": "one_cycle one_cycle_momentum",
        "plateau": "Plateau plateau",
        "polynomial": "polynomial",
        "warmup_stable_decay": "warmup_stable_decay",
        "exponential": "exponential",
        "inverse_sqrt": "inverse_sqrt",
        "join": "join",
        "multiply": "multiply",
        "schedule": "Schedule",
        "stairs": "stairs",
        "step": "step",
        "warmup": "warmup",
    },
)
