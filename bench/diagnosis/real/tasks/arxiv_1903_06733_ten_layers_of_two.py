"""https://arxiv.org/abs/1903.06733 (Lu, Shin, Su and Karniadakis: Dying ReLU and initialization)

|x| learnt by ten ReLU layers of two units with symmetric random weights: in nine runs of ten the network
is born dead or dies, and gives a constant, though two units are enough to represent |x|.
Cause: the deeper and the narrower, the more probable that one layer gives 0 for all inputs. Remedy: an
asymmetric initialisation, or layers as wide as the depth demands (the twin: twenty units).
Root: dead-units
"""

import math

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


class Deep(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width if i else 1, width) for i in range(depth))
        self.last = nn.Linear(width, 1)
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.last(x)


def samples(count, seed):
    x = np.random.default_rng(seed).uniform(-math.sqrt(3), math.sqrt(3), (count, 1))
    return x.astype("float32"), np.abs(x).astype("float32")


def problem():
    return ds.Problem(
        model=lambda: Deep(10, 2 if FAULTY else 20),
        objective="mse",
        train=samples(3000, 0),
        valid=samples(500, 1),
        metric="r2",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=64, epochs=15, seed=0)
