"""https://github.com/zalandoresearch/fashion-mnist/pull/5

The first release of the data was stored class after class, all 0s first, then all 1s, and so on.
Told by the author, who then shuffled the files: if people forget to shuffle the data by themselves, learning
algorithms may fail, especially with mini-batches. (Digits here, and a loader without shuffle=True.)
Root: unshuffled-data
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import downslope as ds

FAULTY = True


def model():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(108, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )


def read(part):
    x, y = part
    order = y.argsort(stable=True)
    return TensorDataset(x[order].view(-1, 1, 8, 8), y[order])


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=model,
        objective=nn.CrossEntropyLoss(),
        train=DataLoader(read(digits.train), batch_size=32, shuffle=not FAULTY),
        valid=DataLoader(read(digits.valid), batch_size=100),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.02, momentum=0.9), epochs=12, seed=0
    )
