"""Mixup: examples and their targets mixed in pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from downslope.augment.augmentation import Pair, chosen, columns
from downslope.augment.mixing import Mixing


@dataclass(frozen=True)
class MixUp(Mixing):
    """``x = k x_i + (1 - k) x_j, y = k y_i + (1 - k) y_j``, k from Beta(alpha, alpha), j another example.

    For inputs of any shape. Class indices become rows of probabilities, which `cross_entropy` takes. Differs
    from the paper's code, which draws one k for the whole batch: each example has its own.

    Args:
        alpha: In [0, inf): 0 mixes nothing, 1 mixes uniformly. The paper's: 0.1 to 0.4 for ImageNet, 1 for
            CIFAR-10.
        labels: "soft", "interpolate", or "auto": by the objective, where there is one.
        classes: Number of classes; in `fit` read off the model's output.
        p: Share of the examples that are mixed, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.

    Source: Zhang, Cisse, Dauphin and Lopez-Paz 2018, "mixup: beyond empirical risk minimization", eq. 2.
    """

    name: ClassVar[str] = "mixup"

    alpha: float = 0.2

    def change(self, pair: Pair) -> Pair:
        """Inputs and target, mixed."""
        x = pair.inputs
        n = len(x)
        partner = torch.randperm(n, device=x.device)
        kept = torch.where(chosen(n, self.p, x), self.shares(n, x), 1.0)
        share = columns(kept, x).to(x.dtype)
        return Pair(x * share + x[partner] * (1 - share), self.mixed(pair.target, kept, partner))
