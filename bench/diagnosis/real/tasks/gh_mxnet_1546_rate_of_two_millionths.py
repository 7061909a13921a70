"""https://github.com/apache/mxnet/issues/1546

A database of zeros and ones, a real value to be told: layers of 32, 10 and 5 relu units and one, a learning rate of
2e-6 with a momentum of 0.9, batches of 4000, 10 rounds. It predicts the same value for all observations.
Answers: another activation, another batch size, input and label brought between -1 and 1; none is confirmed. Ten
rounds at that rate move no weight by a thousandth. (Table made up; the twin has a rate of 0.05 and batches of 100.)
Root: learning-rate-too-low, too-few-steps, batch-too-large
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def train_x_y(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(n, 40, generator=g) < 0.5).float()
    weight = torch.randn(40, generator=torch.Generator().manual_seed(3)) / 6
    y = 1 + (x - 0.5) @ weight * 2 + (x[:, 0] * x[:, 1] - 0.25) + 0.1 * torch.randn(n, generator=g)
    return x, y[:, None]


def feed_forward():
    return nn.Sequential(
        nn.Linear(40, 32),
        nn.ReLU(),
        nn.Linear(32, 10),
        nn.ReLU(),
        nn.Linear(10, 5),
        nn.ReLU(),
        nn.Linear(5, 1),
    )


def problem():
    return ds.Problem(
        model=feed_forward, objective="mse", train=train_x_y(8000, 0), valid=train_x_y(1000, 1), metric="rmse"
    )


def recipe():
    rate, batch = (2e-6, 4000) if FAULTY else (0.05, 100)
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=rate, momentum=0.9), batch_size=batch, epochs=10
    )
