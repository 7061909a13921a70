"""The Fisher information of an output: of the distribution whose negative log-likelihood an objective is."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import ObjectiveError
from downslope.objectives.composite import Composite
from downslope.objectives.configured import Configured
from downslope.objectives.meaning import meaning
from downslope.objectives.objective import class_axis
from downslope.objectives.penalised import Penalised
from downslope.terrain.operators.outputs import Outputs

NATURAL = (
    "cross_entropy", "CrossEntropyLoss", "logistic", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits",
    "squared_error", "MSELoss", "mse_loss",
)  # fmt: skip
"""Objectives whose output is the natural parameter of its distribution: the Hessian by it holds no target."""


def information(outputs: Outputs) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """``u -> M u``, M the Fisher information by the outputs, in the unit of the objective.

    Raises:
        ObjectiveError: the objective is no negative log-likelihood that is known, or is maximised.
    """
    objective = outputs.objective
    function: Any = objective.function
    if objective.sign < 0:
        raise ObjectiveError(
            f"fisher('true'): {objective.label} is maximised, and it is a negative log-likelihood that has a "
            "Fisher matrix; take gauss_newton() or fisher('empirical')"
        )
    if _natural(function):
        return outputs.curved
    made = DIAGONAL.get(meaning(function).name)
    if made is None or len(outputs.outputs) != 1:
        raise ObjectiveError(
            f"fisher('true'): {objective.label} is not known as a negative log-likelihood, so there is "
            "no distribution to expect over; take fisher='empirical' (the labels' own gradients), the "
            "Gauss-Newton matrix or method, lbfgs or newton-cg, or such an objective"
        )
    entries = made(outputs)
    return lambda parts: [entries * parts[0]]


def _bernoulli(outputs: Outputs) -> Tensor:
    """``c / (p (1 - p))`` of a probability p; c, the share of an entry, is read off its second derivative."""
    p = outputs.outputs[0].detach()
    y = cast("Tensor", outputs.target).reshape(p.shape).to(p)
    second = outputs.curved([torch.ones_like(p)])[0]
    return second / (y / p**2 + (1 - y) / (1 - p) ** 2) / (p * (1 - p))


def _categorical(outputs: Outputs) -> Tensor:
    """``c / p_k`` of probabilities p; the slope is ``-c q_k / p_k`` with q a target that sums to 1."""
    p, target = outputs.outputs[0].detach(), cast("Tensor", outputs.target)
    soft = target.shape == p.shape
    axis = 1 if soft or target.ndim == p.ndim else class_axis(p, target, "categorical")
    return -(outputs.slopes[0] * p).sum(axis, keepdim=True) / p.clamp(min=torch.finfo(p.dtype).tiny)


def _log_probabilities(outputs: Outputs) -> Tensor:
    """``c exp(z_k)`` of logarithms z of probabilities, in which the objective is linear."""
    return -outputs.slopes[0].sum(1, keepdim=True) * outputs.outputs[0].detach().exp()


def _laplace(outputs: Outputs) -> Tensor:
    """C of a Laplace distribution of scale 1, whose score is 1 or -1."""
    return torch.full_like(outputs.outputs[0].detach(), _share(outputs))


def _huber(outputs: Outputs) -> Tensor:
    """C times the probability of an error within delta: ``E rho'' = P(|e| < delta)`` as ``E psi^2 = E psi'``.

    Under the density ``exp(-rho(e)) / Z``, ``Z = sqrt(2 pi) erf(delta / sqrt 2) + 2 exp(-delta^2 / 2) /
    delta`` for delta = 1; with other scales of the middle, rho = e^2 / 2s up to d and linear beyond.
    """
    name, delta = meaning(outputs.objective.function).name, _delta(outputs.objective.function)
    smooth = name in ("SmoothL1Loss", "smooth_l1_loss")
    variance, slope = (delta, 1.0) if smooth else (1.0, delta)
    middle = math.sqrt(2 * math.pi * variance) * math.erf(delta / math.sqrt(2 * variance))
    tails = 2 / slope * math.exp(-(delta**2) / (2 * variance))
    known = middle / (middle + tails) / variance
    return torch.full_like(outputs.outputs[0].detach(), known * _share(outputs))


DIAGONAL: dict[str, Callable[[Outputs], Tensor]] = {
    "bernoulli": _bernoulli,
    "BCELoss": _bernoulli,
    "binary_cross_entropy": _bernoulli,
    "categorical": _categorical,
    "NLLLoss": _log_probabilities,
    "nll_loss": _log_probabilities,
    "absolute_error": _laplace,
    "L1Loss": _laplace,
    "l1_loss": _laplace,
    "huber": _huber,
    "HuberLoss": _huber,
    "huber_loss": _huber,
    "SmoothL1Loss": _huber,
    "smooth_l1_loss": _huber,
}
"""Objectives of other outputs, with the information of each entry."""


def _natural(function: Any) -> bool:
    if isinstance(function, Penalised):
        return _natural(function.objective)
    if isinstance(function, Composite):
        return all(_natural(each) for each in function.tasks.values())
    return meaning(function).name in NATURAL


def _share(outputs: Outputs) -> float:
    """What one entry has of the objective: the mean over all of them, or their sum."""
    return 1.0 if meaning(outputs.objective.function).reduction == "sum" else 1 / outputs.outputs[0].numel()


def _delta(function: Any) -> float:
    """Where a robust objective turns linear."""
    if isinstance(function, Penalised):
        return _delta(function.objective)
    settings: dict[str, Any] = {}
    if isinstance(function, Configured):
        settings = dict(function.settings)
    elif isinstance(function, functools.partial):
        settings = cast("functools.partial[Any]", function).keywords
    else:
        settings = {key: getattr(function, key) for key in ("delta", "beta") if hasattr(function, key)}
    return float(settings.get("delta", settings.get("beta", 1.0)))
