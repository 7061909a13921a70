"""Augmenting a batch: ours beside kornia, torchvision and a loop over the examples, in one run.

Ours and kornia's draw for each example in tensor operations; torchvision draws once a call, so it is called
for every example, as a DataLoader's worker does. What is not installed is left out.

    python bench/augment.py [--rounds 11] [--batch 128] [--size 32]
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, ratios

from downslope.augment import read

Change = Callable[[torch.Tensor], torch.Tensor]

OURS = {
    "flip": "flip",
    "shift": "shift(4)",
    "rotate": "rotate(15)",
    "crop": "crop(4)",
    "resized_crop": "resized_crop",
    "colour": "colour(0.2, 0.2, 0.2, 0.02)",
    "noise": "noise(0.1)",
    "erase": "erase(p=1.0)",
    "flip, crop, colour": "flip, crop(4), colour(0.2, 0.2, 0.2, 0.02)",
}


def of_kornia(size: int) -> dict[str, Change]:
    import kornia.augmentation as k

    flip, crop = k.RandomHorizontalFlip(p=0.5), k.RandomCrop((size, size), padding=4)
    colour = k.ColorJitter(0.2, 0.2, 0.2, 0.02, p=1.0)
    return {
        "flip": flip,
        "shift": k.RandomTranslate((-4 / size, 4 / size), (-4 / size, 4 / size), p=1.0),
        "rotate": k.RandomRotation(15.0, p=1.0),
        "crop": crop,
        "resized_crop": k.RandomResizedCrop((size, size)),
        "colour": colour,
        "noise": k.RandomGaussianNoise(0.0, 0.1, p=1.0),
        "erase": k.RandomErasing((0.02, 0.33), (0.3, 10 / 3), p=1.0),
        "flip, crop, colour": torch.nn.Sequential(flip, crop, colour),
    }


def of_torchvision(size: int) -> dict[str, Change]:
    from torchvision.transforms import v2

    flip, crop = v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=4)
    colour = v2.ColorJitter(0.2, 0.2, 0.2, 0.02)
    every: dict[str, Any] = {
        "flip": flip,
        "shift": v2.RandomAffine(0, translate=(4 / size, 4 / size)),
        "rotate": v2.RandomRotation(15, interpolation=v2.InterpolationMode.BILINEAR),
        "crop": crop,
        "resized_crop": v2.RandomResizedCrop(size, antialias=False),
        "colour": colour,
        "noise": v2.GaussianNoise(sigma=0.1, clip=False),
        "erase": v2.RandomErasing(p=1.0),
        "flip, crop, colour": v2.Compose([flip, crop, colour]),
    }
    return {name: looped(change) for name, change in every.items()}


def looped(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda batch: torch.stack([change(each) for each in batch])


def alone(name: str) -> Change:
    """Ours, called for one example after the other: what vectorising saves."""
    change = read(OURS[name])
    return lambda batch: torch.cat([change(each[None]) for each in batch])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=32)
    given = parser.parse_args()
    x = torch.rand(given.batch, 3, given.size, given.size)
    peers: dict[str, dict[str, Change]] = {"loop": {name: alone(name) for name in OURS}}
    for library, make in (("kornia", of_kornia), ("torchvision", of_torchvision)):
        try:
            peers[library] = make(given.size)
        except (ImportError, RuntimeError) as error:  # torchvision's kernels may be built for another torch
            print(f"{library}: left out ({str(error).splitlines()[0]})")
    gains: dict[str, list[float]] = {library: [] for library in peers}
    for name, text in OURS.items():
        ours = read(text)
        changes = [ours, *(each[name] for each in peers.values())]
        actions = [functools.partial(change, x) for change in changes]
        seconds = interleaved(actions, given.rounds, target=0.005)
        line = f"{name:20} {1e3 * sorted(seconds[0])[given.rounds // 2]:7.2f} ms"
        for library, taken in zip(peers, seconds[1:], strict=True):
            found = ratios(taken, seconds[0])
            gains[library].append(found.median)
            line += f"   {library} / ours {found}"
        print(line)
    means = (f"{key} {math.exp(sum(map(math.log, each)) / len(each)):.1f}" for key, each in gains.items())
    print(f"geometric mean over all, peer / ours: {', '.join(means)}")


if __name__ == "__main__":
    main()
