"""Augmentations: ``batch -> batch`` on the device, each example by its own draw; ``"flip, rotate(10)"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.augment.augmentation import Augmentation
    from downslope.augment.chain import Chain
    from downslope.augment.colour import Colour
    from downslope.augment.crop import Crop
    from downslope.augment.cutmix import CutMix
    from downslope.augment.cutout import Cutout
    from downslope.augment.erase import Erase
    from downslope.augment.flip import Flip
    from downslope.augment.mixup import MixUp
    from downslope.augment.noise import Noise
    from downslope.augment.resized_crop import ResizedCrop
    from downslope.augment.rotate import Rotate
    from downslope.augment.shift import Shift
    from downslope.augment.spelt import read

__all__ = [
    "Augmentation",
    "Chain",
    "Colour",
    "Crop",
    "CutMix",
    "Cutout",
    "Erase",
    "Flip",
    "MixUp",
    "Noise",
    "ResizedCrop",
    "Rotate",
    "Shift",
    "read",
]

lazily(
    __name__,
    {
        "augmentation": "Augmentation",
        "chain": "Chain",
        "colour": "Colour",
        "crop": "Crop",
        "cutmix": "CutMix",
        "cutout": "Cutout",
        "erase": "Erase",
        "flip": "Flip",
        "mixup": "MixUp",
        "noise": "Noise",
        "resized_crop": "ResizedCrop",
        "rotate": "Rotate",
        "shift": "Shift",
        "spelt": "read",
    },
)
