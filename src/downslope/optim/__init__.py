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
    from downslope.optim.adabelief import AdaBelief, ScaleByBelief
    from downslope.optim.adadelta import Adadelta, ScaleByDelta
    from downslope.optim.adafactor import Adafactor, ScaleByFactors
    from downslope.optim.adagrad import Adagrad, ScaleBySum
    from downslope.optim.adam import Adam, ScaleByAdam
    from downslope.optim.adamax import Adamax, ScaleByLargest
    from downslope.optim.adamw import AdamW
    from downslope.optim.adan import Adan, ProximalLr, ScaleByAdan
    from downslope.optim.ademamix import AdEMAMix, ScaleByTwoMeans
    from downslope.optim.amsgrad import ScaleByAmsgrad
    from downslope.optim.ascent import Ascent
    from downslope.optim.catalogue import catalogue
    from downslope.optim.cautious import Caution, Cautious, CautiousAdamW, CautiousLion, cautious
    from downslope.optim.centralise import Centralise
    from downslope.optim.clip_adaptive import ClipAdaptive
    from downslope.optim.clip_norm import ClipNorm, ClipNorm1, ClipNormInf, clip_norm
    from downslope.optim.clip_tensor import ClipTensor
    from downslope.optim.clip_value import ClipValue
    from downslope.optim.custom import Custom
    from downslope.optim.decay import CoupledDecay, DecoupledDecay
    from downslope.optim.driver import Optimizer
    from downslope.optim.gd import GD
    from downslope.optim.lamb import LAMB, ScaleByTrustRatio
    from downslope.optim.lars import LARS, ScaleByLars
    from downslope.optim.lion import Lion, SignOfMean
    from downslope.optim.lookahead import Lookahead
    from downslope.optim.momentum import HeavyBall, Momentum
    from downslope.optim.moving_average import AveragedMomentum, MovingAverage
    from downslope.optim.muon import MeanMomentum, Muon, Orthogonalise
    from downslope.optim.nadam import NAdam, ScaleByNadam
    from downslope.optim.nesterov import LookAhead, Nesterov
    from downslope.optim.picks import Pick, route
    from downslope.optim.prodigy import Prodigy, StepByDistance
    from downslope.optim.radam import RAdam, ScaleByRectified
    from downslope.optim.recognise import Recognised, build, recognise
    from downslope.optim.rmsprop import RMSprop, ScaleByRms, ScaleByStd
    from downslope.optim.roles import roles
    from downslope.optim.routes import Routes
    from downslope.optim.rule import Chain, Rule, Scalars, chain
    from downslope.optim.sam import SAM, held_statistics
    from downslope.optim.scale import InverseTimeLr, ScaleByLr
    from downslope.optim.schedule_free import ScheduleFree, ScheduleFreeSGD
    from downslope.optim.schedule_free_adamw import (
        ScaleByDebiasedRms,
        ScaleByInnerMomentum,
        ScheduleFreeAdamW,
    )
    from downslope.optim.sgd import SGD
    from downslope.optim.shampoo import ScaleByShampoo, Shampoo
    from downslope.optim.signum import Sign, Signum
    from downslope.optim.slow_weights import SlowWeights
    from downslope.optim.soap import SOAP, ScaleBySoap
    from downslope.optim.sparse_adam import ScaleBySparseAdam, SparseAdam
    from downslope.optim.stability import method_of, preconditioner, stable_limit, why_unlimited
    from downslope.optim.weight_average import WeightEMA, WeightMean
    from downslope.optim.wrapper import Wrapper

__all__ = [
    "GD",
    "LAMB",
    "LARS",
    "SAM",
    "SGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "SOAP",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Ascent",
    "AveragedMomentum",
    "Caution",
    "Cautious",
    "CautiousAdamW",
    "CautiousLion",
    "Centralise",
    "Chain",
    "ClipAdaptive",
    "ClipNorm",
    "ClipNorm1",
    "ClipNormInf",
    "ClipTensor",
    "ClipValue",
    "CoupledDecay",
    "Custom",
    "DecoupledDecay",
    "HeavyBall",
    "InverseTimeLr",
    "Lion",
    "LookAhead",
    "Lookahead",
    "MeanMomentum",
    "Momentum",
    "MovingAverage",
    "Muon",
    "NAdam",
    "Nesterov",
    "Optimizer",
    "Prodigy",
    "ProximalLr",
    "RAdam",
    "Orthogonalise",
    "Pick",
    "RMSprop",
    "Recognised",
    "Routes",
    "Rule",
    "Scalars",
    "ScaleByAdam",
    "ScaleByAdan",
    "ScaleByAmsgrad",
    "ScaleByBelief",
    "ScaleByDebiasedRms",
    "ScaleByDelta",
    "ScaleByFactors",
    "ScaleByInnerMomentum",
    "ScaleByLargest",
    "ScaleByLars",
    "ScaleByLr",
    "ScaleByNadam",
    "ScaleByRectified",
    "ScaleByRms",
    "ScaleBySparseAdam",
    "ScaleByShampoo",
    "ScaleBySoap",
    "ScaleByStd",
    "ScaleBySum",
    "ScaleByTrustRatio",
    "ScaleByTwoMeans",
    "ScheduleFree",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Sign",
    "SignOfMean",
    "Signum",
    "SlowWeights",
    "SparseAdam",
    "StepByDistance",
    "WeightEMA",
    "WeightMean",
    "Wrapper",
    "Shampoo",
    "build",
    "catalogue",
    "cautious",
    "chain",
    "clip_norm",
    "held_statistics",
    "method_of",
    "preconditioner",
    "recognise",
    "roles",
    "route",
    "stable_limit",
    "why_unlimited",
]

lazily(
    __name__,
    {
        "adabelief": "AdaBelief ScaleByBelief",
        "adadelta": "Adadelta ScaleByDelta",
        "adafactor": "Adafactor ScaleByFactors",
        "adagrad": "Adagrad ScaleBySum",
        "adam": "Adam ScaleByAdam",
        "adamax": "Adamax ScaleByLargest",
        "adamw": "AdamW",
        "adan": "Adan ProximalLr ScaleByAdan",
        "ademamix": "AdEMAMix ScaleByTwoMeans",
        "amsgrad": "ScaleByAmsgrad",
        "ascent": "Ascent",
        "catalogue": "catalogue",
        "cautious": "Caution Cautious CautiousAdamW CautiousLion cautious",
        "centralise": "Centralise",
        "clip_adaptive": "ClipAdaptive",
        "clip_norm": "ClipNorm ClipNorm1 ClipNormInf clip_norm",
        "clip_tensor": "ClipTensor",
        "clip_value": "ClipValue",
        "custom": "Custom",
        "decay": "CoupledDecay DecoupledDecay",
        "driver": "Optimizer",
        "gd": "GD",
        "lamb": "LAMB ScaleByTrustRatio",
        "lars": "LARS ScaleByLars",
        "lion": "Lion SignOfMean",
        "lookahead": "Lookahead",
        "momentum": "HeavyBall Momentum",
        "moving_average": "AveragedMomentum MovingAverage",
        "nadam": "NAdam ScaleByNadam",
        "nesterov": "LookAhead Nesterov",
        "prodigy": "Prodigy StepByDistance",
        "radam": "RAdam ScaleByRectified",
        "muon": "MeanMomentum Muon Orthogonalise",
        "picks": "Pick route",
        "recognise": "Recognised build recognise",
        "rmsprop": "RMSprop ScaleByRms ScaleByStd",
        "roles": "roles",
        "routes": "Routes",
        "rule": "Chain Rule Scalars chain",
        "sam": "SAM held_statistics",
        "scale": "InverseTimeLr ScaleByLr",
        "schedule_free": "ScheduleFree ScheduleFreeSGD",
        "schedule_free_adamw": "ScaleByDebiasedRms ScaleByInnerMomentum ScheduleFreeAdamW",
        "sgd": "SGD",
        "signum": "Sign Signum",
        "slow_weights": "SlowWeights",
        "sparse_adam": "ScaleBySparseAdam SparseAdam",
        "shampoo": "ScaleByShampoo Shampoo",
        "soap": "SOAP ScaleBySoap",
        "stability": "method_of preconditioner stable_limit why_unlimited",
        "weight_average": "WeightEMA WeightMean",
        "wrapper": "Wrapper",
    },
)
