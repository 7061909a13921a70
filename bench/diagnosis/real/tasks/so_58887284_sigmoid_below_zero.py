"""https://stackoverflow.com/questions/58887284

Asked: one neuron with a sigmoid shall learn a curve that is itself a sigmoid turned over, f(x) = -1 /
(exp(10 x) + 1), from 111 points (Adam with rate 0.01, squared error). It goes to zero, and no further.
Answered: the curve lies between -1 and 0, and a sigmoid gives nothing below 0. Move the targets to 0 to 1.
Root: output-activation
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


class Neuron(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(1, 1)

    def forward(self, x):
        return torch.sigmoid(self.dense(x))


def f(x):
    sign = -1.0 if FAULTY else 1.0
    return sign / (np.exp(10.0 * x) + 1.0)


def problem():
    x_train = np.linspace(-1, 1, 111, dtype="float32").reshape(-1, 1)
    x_test = np.linspace(-1, 1, 11, dtype="float32").reshape(-1, 1)
    train, test = (x_train, f(x_train)), (x_test, f(x_test))
    return ds.Problem(model=Neuron, objective=nn.MSELoss(), train=train, valid=test, metric="r2")


def recipe():
    return ds.Recipe(optimizer=lambda params: torch.optim.Adam(params, 0.01), batch_size=32, epochs=200)
