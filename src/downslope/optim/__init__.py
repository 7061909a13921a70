"""Optimizers: pure rules, and one driver that runs them fast.

Classes, arguments, defaults and group keys are spelt as in `torch.optim`, and decay exactly what torch
decays.

    >>> import torch, downslope.optim as optim
    >>> w = torch.nn.Parameter(torch.tensor([-5.0, -2.0]))
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> print(optimizer.plan().rows[0].backend)
    native
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.optim.adagrad import Adagrad, ScaleBySum
    from downslope.optim.adam import Adam, ScaleByAdam
    from downslope.optim.adamw import AdamW
    from downslope.optim.amsgrad import ScaleByAmsgrad
    from downslope.optim.catalogue import catalogue
    from downslope.optim.decay import CoupledDecay, DecoupledDecay
    from downslope.optim.driver import Custom, Optimizer
    from downslope.optim.gd import GD
    from downslope.optim.momentum import HeavyBall, Momentum
    from downslope.optim.muon import Muon
    from downslope.optim.nesterov import LookAhead, Nesterov
    from downslope.optim.recognise import Recognised, build, recognise
    from downslope.optim.rmsprop import RMSprop, ScaleByRms, ScaleByStd
    from downslope.optim.rule import Chain, Rule, Scalars, chain
    from downslope.optim.scale import InverseTimeLr, ScaleByLr
    from downslope.optim.sgd import SGD
    from downslope.optim.sparse_adam import ScaleBySparseAdam, SparseAdam
    from downslope.optim.stability import method_of, preconditioner, stable_limit, why_unlimited

__all__ = [
    "GD",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Chain",
    "CoupledDecay",
    "Custom",
    "DecoupledDecay",
    "HeavyBall",
    "InverseTimeLr",
    "LookAhead",
    "Momentum",
    "Muon",
    "Nesterov",
    "Optimizer",
    "RMSprop",
    "Recognised",
    "Rule",
    "ScaleByAdam",
    "ScaleByAmsgrad",
    "ScaleByLr",
    "ScaleByRms",
    "ScaleByStd",
    "ScaleBySum",
    "ScaleBySparseAdam",
    "Scalars",
    "SparseAdam",
    "build",
    "catalogue",
    "chain",
    "method_of",
    "preconditioner",
    "recognise",
    "stable_limit",
    "why_unlimited",
]

lazily(
    __name__,
    {
        "adagrad": "Adagrad ScaleBySum",
        "adam": "Adam ScaleByAdam",
        "adamw": "AdamW",
        "amsgrad": "ScaleByAmsgrad",
        "catalogue": "catalogue",
        "decay": "CoupledDecay DecoupledDecay",
        "driver": "Custom Optimizer",
        "gd": "GD",
        "momentum": "HeavyBall Momentum",
        "muon": "Muon",
        "nesterov": "LookAhead Nesterov",
        "recognise": "Recognised build recognise",
        "rmsprop": "RMSprop ScaleByRms ScaleByStd",
        "rule": "Chain Rule Scalars chain",
        "scale": "InverseTimeLr ScaleByLr",
        "sgd": "SGD",
        "sparse_adam": "ScaleBySparseAdam SparseAdam",
        "stability": "method_of preconditioner stable_limit why_unlimited",
    },
)
