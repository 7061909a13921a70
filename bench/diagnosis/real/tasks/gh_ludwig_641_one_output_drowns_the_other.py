"""https://github.com/ludwig-ai/ludwig/issues/641

One network with a binary and a numerical output. Trained for the binary one alone it goes on for 40 epochs;
with the numerical one added it is stopped early and poor. The asker suspects the numerical loss, far larger,
to dominate.
Answer: the total is a weighted sum of the losses; give each a weight. (Made up: a sum of money in the
thousands beside a yes or no, which is what counts; the twin takes the sum in units of its deviation.)
Root: unscaled-targets, objective-mismatch
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def customers(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g)
    back = ((x[:, 0] * x[:, 1] + x[:, 2]) > 0).float()
    spent = 4000 + 1500 * (x[:, 3] + x[:, 4].abs() + 0.5 * x[:, 5])
    return x, torch.stack([back, spent if FAULTY else (spent - 5200) / 1800], dim=1)


def combined():
    return nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))


def loss(output, target):
    binary = nn.functional.binary_cross_entropy_with_logits(output[:, 0], target[:, 0])
    numerical = nn.functional.mse_loss(output[:, 1], target[:, 1])
    return binary + numerical


def binary_accuracy(output, target):
    return ((output[:, 0] > 0).float() == target[:, 0]).float().mean().item()


def problem():
    return ds.Problem(
        model=combined,
        objective=loss,
        train=customers(1500, 0),
        valid=customers(500, 1),
        metric=binary_accuracy,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=64, epochs=20, seed=0)
