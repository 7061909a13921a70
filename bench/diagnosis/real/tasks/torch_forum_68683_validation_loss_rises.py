"""https://discuss.pytorch.org/t/why-is-the-validation-loss-increasing/68683

Cats, dogs and pandas, one convolution and one linear layer, 100 epochs. The loss falls in training and
rises on the validation pictures all the way, while the accuracy there settles.
Cause, by the asker himself: "its quite obvious I am overfitting". (Few and noisy digits of three classes
here; the twin stops early, after five epochs.)
Root: high-variance
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class ShallowNetTorch(nn.Module):
    def __init__(self, width=8, height=8, depth=1, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(depth, 32, 3, padding=1)
        self.activation = nn.ReLU()
        self.fc1 = nn.Linear(width * height * 32, classes)

    def forward(self, x):
        x = self.activation(self.conv1(x))
        return self.fc1(x.flatten(1))


def pictures(part, count, seed):
    x, y = part
    kept = (y == 3) | (y == 8) | (y == 9)
    x, y = x[kept][:count].view(-1, 1, 8, 8), y[kept][:count]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return x + 0.9 * noise, (y == 8).long() + 2 * (y == 9).long()


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=ShallowNetTorch,
        objective=nn.CrossEntropyLoss(),
        train=pictures(digits.train, 150, 0),
        valid=pictures(digits.valid, 110, 1),
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=16, epochs=100 if FAULTY else 5, seed=0)
