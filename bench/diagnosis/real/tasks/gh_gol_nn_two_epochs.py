"""https://github.com/alexander-travov/gol_nn/commit/d9b30a0fed68e489e8c064b43a21ab9e7d80b649

Conway's Game of Life as a network: 8000 fields of 3 x 3 padded round, ten 3 x 3 filters, twenty and one 1 x
1 filters, relu, sigmoid, binary cross-entropy, Adam at its default rate, batches of 64. After the two epochs
it is given it has not found the rule.
Cause, by DeepLocalize and DeepFD: loss, epochs, learning rate. The repository's commit: squared error, rate
0.01, and ten epochs.
Root: learning-rate-too-low, too-few-steps
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


def update_field(field):
    neighbours = sum(
        np.roll(field, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)
    )
    return (neighbours == 3) | ((field == 1) & (neighbours == 2))


def generate_dataset(count, seed):
    field = (np.random.default_rng(seed).random((count, 3, 3)) < 0.5).astype("int32")
    padded = np.pad(field, ((0, 0), (1, 1), (1, 1)), mode="wrap")
    return padded[:, None].astype("float32"), update_field(field)[:, None].astype("float32")


def life_nn():
    net = nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.ReLU(), nn.Conv2d(10, 20, 1), nn.ReLU(), nn.Conv2d(20, 1, 1), nn.Sigmoid()
    )
    for conv in net[::2]:
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
    return net


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    return ds.Problem(
        model=life_nn,
        objective=nn.BCELoss() if FAULTY else nn.MSELoss(),
        train=generate_dataset(8000, 0),
        valid=generate_dataset(2000, 1),
        metric=accuracy,
    )


def recipe():
    rate, epochs = (0.001, 2) if FAULTY else (0.01, 10)
    return ds.Recipe(optimizer=lambda params: torch.optim.Adam(params, rate), batch_size=64, epochs=epochs)
