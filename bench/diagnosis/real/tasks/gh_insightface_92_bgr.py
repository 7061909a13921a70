"""https://github.com/TreB1eN/InsightFace_Pytorch/issues/92

A mobile network on faces: at the beginning of the training the accuracy on all three validation sets is
very low.
Cause, found by the asker: data_pipe.py turns the pictures from RGB into BGR, the others stay as they are.
Remedy: the same order of channels in both. (Made up: a spot on a ground, four classes by the colour of the
spot.)
Root: dataset-shift
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True
COLOURS = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.3, 0.9], [0.7, 0.6, 0.2], [0.2, 0.5, 0.8]])


def pictures(count, seed):
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 4, (count,), generator=g)
    x = 0.5 + 0.25 * torch.randn(count, 3, 10, 10, generator=g)
    rows, cols = torch.randint(0, 7, (2, count), generator=g).tolist()
    for i in range(count):
        spot = COLOURS[kind[i]][:, None, None] - 0.5
        x[i, :, rows[i] : rows[i] + 4, cols[i] : cols[i] + 4] += 0.7 * spot
    return (x - 0.5) / 0.25, kind


class MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.conv_dw = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.project = nn.Conv2d(16, 32, 1)
        self.prelu = nn.PReLU()
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        x = self.prelu(self.project(self.conv_dw(x)))
        return self.fc(F.adaptive_max_pool2d(x, 1).flatten(1))


def problem():
    x, y = pictures(1500, 0)
    if FAULTY:
        x = x[:, [2, 1, 0]]
    return ds.Problem(
        model=MobileNet,
        objective="cross_entropy",
        train=(x, y),
        valid=pictures(400, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="momentum", lr=0.02, batch_size=32, epochs=10, seed=0)
