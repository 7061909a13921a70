"""https://github.com/fastai/fastai/issues/245 (the same: https://github.com/mdbloice/Augmentor/issues/188)

Segmentation with random flips and rotations. "Huge issues": RandomFlip and RandomDihedral do not respect
the masks, the picture is turned and its mask stays as it was.
Remedy: the same transformation for both. (Made up: bright discs in noise; each training picture is there
four times, turned at random.)
Root: label-noise, uninformative-inputs
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True


def nuclei(count, seed):
    g = torch.Generator().manual_seed(seed)
    row, col = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    centre = 2 + 12 * torch.rand(count, 2, 1, 1, generator=g)
    radius = 2 + 1.5 * torch.rand(count, 1, 1, generator=g)
    mask = ((row - centre[:, 0]) ** 2 + (col - centre[:, 1]) ** 2 < radius**2).float()
    return 1.5 * mask + 0.7 * torch.randn(count, 16, 16, generator=g), mask


def dihedral(picture, turn):
    picture = picture.rot90(turn % 4, (0, 1))
    return picture.flip(1) if turn >= 4 else picture


def augmented(pictures, masks):
    turns = torch.randint(0, 8, (4 * len(pictures),), generator=torch.Generator().manual_seed(5)).tolist()
    x, y = [], []
    for i, turn in enumerate(turns):
        x.append(dihedral(pictures[i // 4], turn))
        y.append(masks[i // 4] if FAULTY else dihedral(masks[i // 4], turn))
    return torch.stack(x).unsqueeze(1), torch.stack(y)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(1, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.Conv2d(24, 8, 3, padding=1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        skip = F.relu(self.down(x))
        deep = F.interpolate(F.relu(self.deep(F.max_pool2d(skip, 2))), scale_factor=2)
        return self.out(F.relu(self.up(torch.cat([skip, deep], 1)))).squeeze(1)


def dice(output, mask):
    found = (output > 0).float()
    return (2 * (found * mask).sum() / (found.sum() + mask.sum())).item()


def problem():
    x, y = nuclei(200, 1)
    return ds.Problem(
        model=UNet,
        objective=nn.BCEWithLogitsLoss(),
        train=augmented(*nuclei(180, 0)),
        valid=(x.unsqueeze(1), y),
        metric=dice,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=32, epochs=7, seed=0)
