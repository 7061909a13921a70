"""https://stackoverflow.com/questions/46995209

A toy to fit a sine from the number of the time step, 0 to 999, by a small tanh network, does not get off a line.
Answered: the inputs go up to 1000, so that every tanh is saturated and the gradient close to zero; bring them
to mean zero and variance one. (The sine has three periods in the thousand steps.)
Root: unscaled-inputs, saturated-units
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def series(first):
    x = torch.arange(first, 1000, 2).float().unsqueeze(1)
    y = torch.sin(x * 6 * torch.pi / 1000)
    return (x if FAULTY else (x - 499.5) / 100), y


def problem():
    return ds.Problem(
        model=lambda: nn.Sequential(
            nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
        ),
        objective="mse",
        train=series(0),
        valid=series(1),
        metric="r2",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.005, batch_size=50, epochs=120)
