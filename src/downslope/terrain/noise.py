"""The gradient noise scale: the batch size at which noise and signal of the gradient are equal.

``B_simple = tr(Sigma) / |G|**2``, Sigma the covariance of the gradient of one example and G the true
gradient (McCandlish, Kaplan, Amodei et al. 2018, An empirical model of large-batch training, section 2.2).
Far below it, twice the batch saves nearly half of the steps; far above it, nearly none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from downslope.core.errors import InputError


class Noise(NamedTuple):
    """The two moments of the gradient, and their ratio."""

    scale: float
    """``trace / squared_norm``, in examples; infinite where no signal stands out of the noise."""
    trace: float
    """Unbiased estimate of tr(Sigma), of one example."""
    squared_norm: float
    """Unbiased estimate of |G|**2; may be negative where noise prevails."""
    trace_error: float
    """Standard error of `trace`, by the jackknife over batches; NaN for fewer than three batches."""
    squared_norm_error: float
    """Standard error of `squared_norm`, the same way."""

    @property
    def low(self) -> float:
        """What `scale` is at least where both moments are off by a standard error; NaN for no errors."""
        most = self.squared_norm + self.squared_norm_error
        return max(self.trace - self.trace_error, 0.0) / most if most > 0 else self.scale

    @property
    def high(self) -> float:
        """What `scale` is at most, likewise; infinite where the signal may be nil."""
        least = self.squared_norm - self.squared_norm_error
        if math.isnan(least):
            return math.nan
        return (self.trace + self.trace_error) / least if least > 0 else math.inf


def noise_scale(gradients: Tensor, batch_size: int) -> Noise:
    """The noise scale from the gradients of several batches of one size at the same parameters.

    Appendix A.1 of the paper with the single batches as the small ones and their mean as the big one:
    ``|G|^2 = (B_big |G_big|^2 - B_small |G_small|^2) / (B_big - B_small)`` and
    ``S = (|G_small|^2 - |G_big|^2) / (1/B_small - 1/B_big)``.

    Args:
        gradients: shape (k, n), the mean gradient of each of k >= 2 batches, flat.
        batch_size: examples in each batch, at least 1.

    Returns:
        Scale, moments, and their standard errors.

    Raises:
        InputError: fewer than two batches, or a batch size below 1.
    """
    if gradients.ndim != 2 or len(gradients) < 2 or batch_size < 1:
        raise InputError(
            f"gradients of shape {tuple(gradients.shape)} with batch_size={batch_size}: needs (k, n) with at "
            "least 2 batches of at least 1 example, since noise is what differs between batches"
        )
    g = gradients.detach().double()
    k = len(g)
    own = g.square().sum(1)
    total = g.sum(0)
    whole = noise_from_norms(own.mean().item(), (total / k).square().sum().item(), batch_size, k * batch_size)
    if k < 3:
        return whole
    # Leaving one batch out, without a second pass over the vectors.
    others = (total.square().sum() - 2 * (g @ total) + own) / (k - 1) ** 2
    smaller = (own.sum() - own) / (k - 1)
    left = [
        noise_from_norms(small.item(), big.item(), batch_size, (k - 1) * batch_size)
        for small, big in zip(smaller, others, strict=True)
    ]
    return whole._replace(
        trace_error=jackknife([one.trace for one in left]),
        squared_norm_error=jackknife([one.squared_norm for one in left]),
    )


def noise_from_norms(small: float, big: float, small_batch: int, big_batch: int) -> Noise:
    """The noise scale from two mean squared gradient norms, where keeping the gradients costs too much.

    Args:
        small: mean of ``|g|**2`` over small batches.
        big: ``|g|**2`` of a big batch, or its mean over several.
        small_batch: examples in a small batch.
        big_batch: examples in a big batch, more than `small_batch`.

    Returns:
        Scale and moments; the errors are NaN.

    Raises:
        InputError: the batches are not of two sizes in this order.
    """
    if not 1 <= small_batch < big_batch:
        raise InputError(
            f"small_batch={small_batch}, big_batch={big_batch}: must be at least 1, and increasing"
        )
    squared_norm = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    trace = (small - big) / (1 / small_batch - 1 / big_batch)
    scale = trace / squared_norm if squared_norm > 0 else (math.inf if trace > 0 else math.nan)
    return Noise(scale, trace, squared_norm, math.nan, math.nan)


def jackknife(left_out: list[float]) -> float:
    """Standard error from the estimates that each leave one batch out (Efron and Stein 1981)."""
    values = torch.tensor(left_out, dtype=torch.float64)
    k = len(left_out)
    return math.sqrt((k - 1) / k * (values - values.mean()).square().sum().item())
