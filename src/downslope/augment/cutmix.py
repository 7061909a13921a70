"""Cutmix: a box of one image pasted into another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from downslope.augment.augmentation import Pair, chosen
from downslope.augment.boxes import boxes
from downslope.augment.image import OfImages, is_image
from downslope.augment.mixing import Mixing


@dataclass(frozen=True)
class CutMix(Mixing, OfImages):
    """A box of another image, with sides ``sqrt(1 - k)`` of the image's, k from Beta(alpha, alpha).

    The target is mixed by the share of pixels that stayed, since part of a box may lie outside. A target
    that is an image itself, such as a mask, is pasted like the image. Differs from the paper's code, which
    draws one box for the whole batch: each example has its own.

    Args:
        alpha: In [0, inf); 0 pastes nothing. The paper's is 1.
        labels: "soft", "interpolate", or "auto": by the objective, where there is one.
        classes: Number of classes; in `fit` read off the model's output.
        p: Share of the examples that get a box, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.

    Source: Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable
    features", eqs. 1 and 2.
    """

    name: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def change(self, pair: Pair) -> Pair:
        """Inputs with a box of another's; the target by the share of it."""
        self.check_images(pair.inputs)
        images, target = pair
        n, device = len(images), images.device
        whole = torch.tensor(images.shape[-2:], dtype=torch.float32, device=device)
        partner = torch.randperm(n, device=device)
        side = (1 - torch.where(chosen(n, self.p, images), self.shares(n, images), 1.0)).sqrt()
        sides = (side[:, None] * whole).round()
        centre = (torch.rand(n, 2, dtype=torch.float32, device=device) * whole).floor() + sides % 2 / 2
        box = boxes(images, centre, sides)
        mixed = torch.where(box, images[partner], images)
        if isinstance(target, Tensor) and is_image(target, images):
            inside = box if target.dim() == 4 else box[:, 0]
            return Pair(mixed, torch.where(inside, target[partner], target))
        kept = 1 - box.float().mean((1, 2, 3))
        return Pair(mixed, self.mixed(target, kept, partner))
