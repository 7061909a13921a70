"""https://stackoverflow.com/questions/31880720

Asked: a Keras network shall tell rows of 128 ones from rows of 128 zeros, the simplest task there is. The
loss stands at about 7.7 and the accuracy at exactly 0.5, whatever is trained.
Answered: a softmax over a single unit is 1 for every input. A single unit wants a sigmoid.
Root: output-activation
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def model():
    return nn.Sequential(
        nn.Linear(128, 50),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(50, 50),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(50, 1),
        nn.Softmax(dim=1) if FAULTY else nn.Sigmoid(),
    )


def rows(half):
    x = torch.cat([torch.ones(half, 128), torch.zeros(half, 128)])
    return x, torch.cat([torch.ones(half, 1), torch.zeros(half, 1)])


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    return ds.Problem(
        model=model, objective=nn.BCELoss(), train=rows(10_000), valid=rows(100), metric=accuracy
    )


def recipe():
    return ds.Recipe(optimizer=lambda params: torch.optim.RMSprop(params, lr=0.001), batch_size=128, epochs=3)
