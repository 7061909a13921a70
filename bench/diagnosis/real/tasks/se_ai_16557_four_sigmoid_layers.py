"""https://ai.stackexchange.com/questions/16557

Binary vectors are mapped to real values by four hidden layers of sigmoid units (500 in each there); the
network is unable to learn, the loss is high on the training data too.
Answered: the gradient of a sigmoid is at most a quarter, by the fourth layer the signal is 1/256 or less;
this is the vanishing gradient. Use rectifiers. (Narrower here, data made up and scaled.)
Root: vanishing-gradient, saturated-units
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def activation():
    return nn.Sigmoid() if FAULTY else nn.ReLU()


def model(width=64):
    return nn.Sequential(
        nn.Linear(20, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, 1),
    )


def mappings(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(n, 20, generator=g) < 0.5).float()
    weight = torch.randn(20, generator=torch.Generator().manual_seed(99))
    pairs = (x[:, :10] * x[:, 10:]).sum(1)
    y = (x - 0.5) @ weight + 0.6 * (pairs - 2.5)
    return x, (y / 2.3).unsqueeze(1)


def problem():
    return ds.Problem(
        model=model, objective=nn.MSELoss(), train=mappings(1200, 0), valid=mappings(300, 1), metric="r2"
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.05), batch_size=32, epochs=20, seed=0
    )
