"""Gaussian noise on the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from downslope.augment.augmentation import Augmentation, Pair, chosen, columns


@dataclass(frozen=True)
class Noise(Augmentation):
    """``x + std e``, e from N(0, 1), for inputs of any shape.

    With a squared loss, small noise is a penalty on the model's slope by its inputs, ``std**2 |df/dx|**2``
    (Bishop 1995, "Training with noise is equivalent to Tikhonov regularization").

    Args:
        std: Standard deviation in the units of the inputs, in [0, inf).
        p: Share of the examples that get noise, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.
    """

    name: ClassVar[str] = "noise"

    std: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_zero("std", self.std)

    def change(self, pair: Pair) -> Pair:
        """Inputs with noise; the target stays."""
        x = pair.inputs
        noise = torch.randn_like(x).mul_(self.std)
        if self.p < 1:
            noise *= columns(chosen(len(x), self.p, x), x)
        return Pair(x + noise, pair.target)
