"""https://github.com/Hiyuur/SR-TOD/issues/5

A difference map is turned into a mask, (sign(map - learnable_thresh) + 1) / 2, to find tiny objects.
Asked: sign has a gradient of 0 everywhere, so the threshold is never updated though it is a parameter.
Answer: so it was with torch.where as well, "a warning about gradient being blocked"; the mask has to be
made by something that can be differentiated. (The twin has a steep sigmoid. Made up: a tiny cross or a
tiny saltire in a noisy picture, the map is what a convolution makes of it.)
Root: non-differentiable, frozen-parameters
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def pictures(count, seed):
    g = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(count, 1, 12, 12, generator=g)
    kind = torch.randint(0, 2, (count,), generator=g)
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])
    saltire = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    rows, cols = torch.randint(0, 10, (2, count), generator=g).tolist()
    for i in range(count):
        x[i, 0, rows[i] : rows[i] + 3, cols[i] : cols[i] + 3] += 2.5 * (saltire if kind[i] else cross)
    return x / x.std(), kind


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.learnable_thresh = nn.Parameter(torch.full((4, 1, 1), 0.3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        difference_map = self.conv(x)
        if FAULTY:
            mask = (torch.sign(difference_map - self.learnable_thresh) + 1) * 0.5
        else:
            mask = torch.sigmoid(4 * (difference_map - self.learnable_thresh))
        return self.head(mask.sum((2, 3)))


def problem():
    return ds.Problem(
        model=Detector,
        objective="cross_entropy",
        train=pictures(2000, 0),
        valid=pictures(500, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=64, epochs=30, seed=0)
