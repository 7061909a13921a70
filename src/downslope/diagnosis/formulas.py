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
    softplus,
)

from downslope.objectives import bernoulli, categorical
from downslope.objectives.objective import Expects

EQUAL = 1e-3
"""Relative difference of the calculated loss from the one that was heard. An epsilon under the logarithm
makes 1e-5, a weight of the classes or a focus on hard examples 0.1 and more."""


def matching(function: Any, made: Tensor, target: Tensor, value: Tensor, mean: bool) -> Any:
    """`function`, scaled as the loss is, if it gives the loss: a mean over examples or entries, or a sum."""
    ours = _mean(function, made, target)
    if not bool(torch.isfinite(ours)) or not float(ours):
        return None
    n, ratio = len(made), float(value.double() / ours)
    entries = made[0].numel()
    for factor, summed in ((1.0, False), (1.0 / entries, False), (float(entries), False)):
        if abs(ratio - factor) <= EQUAL * factor:
            return _named(function, target, factor, summed)
    for factor in (1.0, float(entries)) if mean else ():  # a sum over a number is no smaller part of a step
        if abs(ratio - factor * n) <= EQUAL * factor * n:
            return _named(function, target, factor, True)
    return None


def _mean(function: Any, made: Tensor, target: Tensor) -> Tensor:
    made = made.detach().double()
    if function is cross_entropy or function is categorical:
        logs = log_softmax(made, 1) if function is cross_entropy else made.log()
        if target.dim() == 1:
            return -logs.gather(1, target[:, None]).mean()
        y = target.double()
        return -torch.where(y == 0, 0.0, y * logs).sum(1).mean()
    y = target.double()
    if function is mse_loss or function is l1_loss:
        return (made - y).square().mean() if function is mse_loss else (made - y).abs().mean()
    if function is binary_cross_entropy_with_logits:
        return (softplus(made) - y * made).mean()
    other = function.other.double() if isinstance(function, _Bernoulli) else 1 - made
    return -(torch.xlogy(y, made) + torch.xlogy(1 - y, other)).mean()


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
        return known(output, target) * (factor * len(output) if summed else factor)

    expects, kind, said = _MEANINGS[known.__name__]
    index = target.dim() == 1 and not target.is_floating_point()
    said = said.replace("y log p", "log p") if index else said
    value.__name__ = f"{'sum' if summed else 'mean'} of {said}"
    value.__dict__.update(expects=expects, target=kind, reduction="sum" if summed else "mean")
    return value


_MEANINGS: dict[str, tuple[Expects, str, str]] = {
    "categorical": ("probabilities", "class", "-y log p"),
    "bernoulli": ("probability", "binary", "-y log p - (1 - y) log(1 - p)"),
    "cross_entropy": ("logits", "class", "logsumexp(z) - z of the class"),
    "mse_loss": ("real", "real", "squares"),
    "l1_loss": ("real", "real", "absolute values"),
    "binary_cross_entropy_with_logits": ("logit", "binary", "log(1 + exp(z)) - y z"),
}
