"""Picture of the augmentations: eight digits, and what each change made of them by one draw."""

from __future__ import annotations

from pathlib import Path

import torch

import downslope as ds
from scripts.pictures.style import panels, save

SHOWN = (
    ("as they are", ""),
    ("flip", "flip(p=1.0)"),
    ("shift(1)", "shift(1)"),
    ("rotate(30)", "rotate(30)"),
    ("crop(2)", "crop(2)"),
    ("resized_crop", "resized_crop((0.4, 0.8))"),
    ("colour(0.6, 0.6)", "colour(0.6, 0.6)"),
    ("noise(0.15)", "noise(0.15)"),
    ("cutout(3)", "cutout(3)"),
    ("erase", "erase((0.05, 0.3), p=1.0)"),
    ("mixup(1.0)", "mixup(1.0)"),
    ("cutmix(1.0)", "cutmix(1.0)"),
    (
        "shift, rotate,\ncolour, noise",
        "shift(1), rotate(20), colour(0.4, 0.4), noise(0.1)",
    ),
)
COUNT = 8


def augmentation() -> Path:
    """A row for each augmentation, a column for each digit; every digit has a draw of its own."""
    inputs, labels = ds.data.digits(images=True, scale=16).train
    first = torch.stack([torch.nonzero(labels == label)[3, 0] for label in (0, 1, 2, 3, 4, 5, 7, 9)])
    images = inputs[first]
    figure, axes = panels(1, height=6.4, width=5.6)
    axis, rows = axes[0], []
    torch.manual_seed(4)
    for _, text in SHOWN:
        made = ds.augment.read(text)(images) if text else images
        rows.append(torch.nn.functional.pad(made[:, 0], (1, 1, 1, 1), value=torch.nan))
    mosaic = torch.cat([torch.cat(list(row), 1) for row in rows], 0)
    axis.imshow(mosaic, cmap="magma", vmin=0, vmax=1.25, interpolation="nearest", aspect="equal")
    side = images.shape[-1] + 2
    axis.set_yticks([side * (row + 0.5) for row in range(len(SHOWN))], [name for name, _ in SHOWN])
    axis.set_xticks([])
    axis.tick_params(length=0)
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_title("Each digit has a draw of its own")
    return save(figure, "augmentation")
