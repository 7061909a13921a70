"""Which formula gave a loss: calculated anew from output and target, and compared with what was heard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    l1_loss,
    log_softmax,
    mse_loss,
    nll_loss,
    softplus,
)

from downslope.objectives import bernoulli, categorical
from downslope.objectives.objective import Expects

EQUAL = 1e-3
"""Relative difference of the calculated loss from the one that was heard. An epsilon under the logarithm
makes 1e-5, a weight of the classes or a focus on hard examples 0.1 and more."""

SAME = 1e-4
"""The same of a loss that leaves examples out: which ones is a guess more, and the mean of others is near."""

LEFT = 1e-5
"""Share of the size of its terms that a sum in float32 is known to. Of numbers 16 times as large as their
mean it is 1e-6."""

LEAST = -100.0
"""Logarithm of a probability of 0, as `torch.nn.BCELoss` has it."""


def matching(function: Any, made: Tensor, target: Tensor, value: Tensor, mean: bool) -> Any:
    """`function`, scaled as the loss is, if it gives the loss: a mean over examples or entries, or a sum.

    Where some rows do not count (a class below 0), it has to be the mean of those that do.
    """
    ours = mean_of(function, made, target)
    if not bool(torch.isfinite(ours)) or not (float(ours) or _beyond(target)):
        return None
    n, ratio = len(made), float(value.double() / ours)
    if (near := _cancelled(function, made, target)) > abs(float(ours)) and near > abs(float(value)):
        ratio = 1.0  # rounding is all that is left of it
    if _indices(target) and bool((target < 0).any()):
        return _named(function, target, 1.0, False) if abs(ratio - 1.0) <= SAME else None
    entries = made[0].numel()
    for factor, summed in ((1.0, False), (1.0 / entries, False), (float(entries), False)):
        if abs(ratio - factor) <= EQUAL * factor:
            return _named(function, target, factor, summed)
    for factor in (1.0, float(entries)) if mean else ():  # a sum over a number is no smaller part of a step
        if abs(ratio - factor * n) <= EQUAL * factor * n:
            return _named(function, target, factor, True)
    return None


def _indices(target: Tensor) -> bool:
    return target.dim() == 1 and not target.is_floating_point()


def mean_of(function: Any, made: Tensor, target: Tensor) -> Tensor:
    """The mean over examples, or entries, without a call of torch's losses, which a script may hear."""
    made = made.detach().double()
    if function in (cross_entropy, categorical, nll):
        logs = log_softmax(made, 1) if function is cross_entropy else made if function is nll else made.log()
        if _indices(target):
            kept = target >= 0
            return -logs[kept].gather(1, target[kept][:, None]).mean()
        y = target.double()
        return -torch.where(y == 0, 0.0, y * logs).sum(1).mean()
    y = target.double()
    if function is mse_loss or function is l1_loss:
        return (made - y).square().mean() if function is mse_loss else (made - y).abs().mean()
    if function is binary_cross_entropy_with_logits:
        return (softplus(made) - y * made).mean()
    other = function.other.double() if isinstance(function, _Bernoulli) else 1 - made
    return -(y * made.log() + (1 - y) * other.log()).mean() if _beyond(y) else -(
        torch.xlogy(y, made) + torch.xlogy(1 - y, other)).mean()  # fmt: skip


def _cancelled(function: Any, made: Tensor, target: Tensor) -> float:
    """Size of a loss, of terms of either sign, below which they have cancelled out; else 0."""
    if not isinstance(function, _Bernoulli) or not _beyond(target):
        return 0.0
    y, p = target.double(), made.detach().double()
    return LEFT * float(((y * p.log()).abs() + ((1 - y) * function.other.double().log()).abs()).mean())


def nll(output: Tensor, target: Tensor) -> Tensor:
    """Minus the logarithm of what the class, or the row of shares, was given, of logarithms (n, C)."""
    return nll_loss(output, target) if _indices(target) else -(target * output).sum(1).mean()


def _beyond(target: Tensor) -> bool:
    """Whether answers are no probabilities, such as numbers of classes."""
    return bool((target < 0).any() or (target > 1).any())


class _Bernoulli(NamedTuple):
    """The log loss of two results, with the second one as the loss had it, clamped or with an epsilon."""

    other: Tensor


def bernoulli_of(other: Tensor) -> Any:
    """The log loss of two results whose second logarithm is taken of `other`."""
    return _Bernoulli(other)


def _named(function: Any, target: Tensor, factor: float, summed: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of output and target, with what a diagnosis reads off an objective."""
    known: Any = bernoulli if isinstance(function, _Bernoulli) else function

    def value(output: Tensor, target: Tensor) -> Tensor:
        if known is bernoulli or known is binary_cross_entropy_with_logits:
            target = target.to(output.dtype)
        if known is bernoulli and _beyond(target):  # torch's own refuses them; it too cuts logarithms off
            p = output.reshape(target.shape)
            logs, others = p.log().clamp_min(LEAST), (1 - p).log().clamp_min(LEAST)
            return -(target * logs + (1 - target) * others).mean() * (
                factor * len(output) if summed else factor)  # fmt: skip
        return known(output, target) * (factor * len(output) if summed else factor)

    expects, kind, said = _MEANINGS[known.__name__]
    index = target.dim() == 1 and not target.is_floating_point()
    said = said.replace("y log p", "log p") if index else said
    value.__name__ = f"{'sum' if summed else 'mean'} of {said}"
    value.__dict__.update(expects=expects, target=kind, reduction="sum" if summed else "mean")
    return value


_MEANINGS: dict[str, tuple[Expects, str, str]] = {
    "nll": ("log-probabilities", "class", "-y log p"),
    "categorical": ("probabilities", "class", "-y log p"),
    "bernoulli": ("probability", "binary", "-y log p - (1 - y) log(1 - p)"),
    "cross_entropy": ("logits", "class", "logsumexp(z) - z of the class"),
    "mse_loss": ("real", "real", "squares"),
    "l1_loss": ("real", "real", "absolute values"),
    "binary_cross_entropy_with_logits": ("logit", "binary", "log(1 + exp(z)) - y z"),
}
