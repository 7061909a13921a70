"""https://discuss.pytorch.org/t/built-in-0-1-loss-function/216747

A loss of one's own that is 0 where the answer is right and 1 where it is not, with requires_grad=True set
on what it returns.
Answered: such a loss is not (usefully) differentiable, the if-else has no gradient, and setting
requires_grad does not fix this. Write a soft loss. (The task is made up: wine by its measures.)
Root: non-differentiable
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def zero_one_loss(output, target):
    predicted = output.argmax(dim=1)
    wrong = (predicted != target).float()
    return wrong.mean().requires_grad_(True)


def problem():
    wine = ds.data.wine()
    (x, y), (xv, yv) = wine.train, wine.valid
    mean, deviation = x.mean(0), x.std(0)
    return ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3)),
        objective=zero_one_loss if FAULTY else nn.functional.cross_entropy,
        train=((x - mean) / deviation, y),
        valid=((xv - mean) / deviation, yv),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
        batch_size=16,
        epochs=20,
        seed=0,
    )
