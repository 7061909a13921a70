"""A normal distribution without its tails, as transformers and vision models use it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from downslope.core.errors import ModelError


@torch.no_grad()
def truncated_normal(
    weight: Tensor, generator: torch.Generator | None = None, *, std: float = 0.02, cut: float = 2.0
) -> None:
    """Fill from N(0, std**2) without what lies beyond ``cut`` deviations, in place.

    The deviation of what is left is smaller than `std`:

        Var(w) = std**2 (1 - 2 c phi(c) / (2 Phi(c) - 1)),   c = cut

    which is ``(0.8796 std)**2`` for the default cut. Drawn by the inverse of the distribution function, in
    float64.

    Args:
        weight: any shape.
        generator: of the draws, on the CPU; by default torch's own.
        std: float in [0, inf), before the tails are cut; 0.02 is that of BERT (Devlin et al. 2019).
        cut: float in (0, inf), in deviations; 2 is TensorFlow's.

    Raises:
        ModelError: a deviation or a cut outside its domain.

    Differs from:
        `torch.nn.init.trunc_normal_`, whose cuts ``a=-2, b=2`` are values of the weight, not deviations: with
        std=0.02 they cut nothing off.
    """
    if not 0 <= std < math.inf:
        raise ModelError(
            f"truncated_normal: std={std}: must lie in [0, inf), it is a deviation; 0.02 is usual"
        )
    if not 0 < cut < math.inf:
        raise ModelError(f"truncated_normal: cut={cut}: must lie in (0, inf), in deviations; 2 is usual")
    if weight.is_complex():
        raise ModelError("truncated_normal: a complex weight has no tails to cut off on one line; use normal")
    reach = math.erf(cut / math.sqrt(2))
    drawn = (2 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1) * reach
    weight.copy_(torch.erfinv(drawn).mul_(math.sqrt(2) * std).clamp_(-cut * std, cut * std))
