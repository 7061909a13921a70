"""https://github.com/ShyamPoovaiah/FacialKeypointsDetection/commit/654392560f25688822862126005f576b682e38ad

Keypoints of faces (DeepLocalize, DeepFD): pixels in [0, 1], three dense layers of 50, 100 and 30 units
without any activation, coordinates in [-1, 1], squared error, Adam with rate 0.1. The loss jumps to enormous
values and comes down slowly, never to anything useful.
Cause, by the benchmarks: the optimizer with that rate. The repository's commit: SGD with rate 0.01,
Nesterov's momentum 0.9, gradients clipped to a norm of 1. (Here faces of two eyes and a mouth, 16 x 16, and
20 epochs.)
Root: learning-rate-too-high, oscillation
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


def faces(count, seed):
    rng = np.random.default_rng(seed)
    middle, half = rng.uniform(6.5, 8.5, (count, 2)), rng.uniform(2.5, 4.0, (count, 1))
    spots = np.stack(
        [middle - half * [1, 1], middle + half * [1, -1], middle + half * [0, 1.1]], 1
    ) + rng.normal(0, 0.3, (count, 3, 2))
    grid = np.arange(16)
    dx = grid[None, None, None, :] - spots[:, :, 0, None, None]
    dy = grid[None, None, :, None] - spots[:, :, 1, None, None]
    image = np.exp(-(dx**2 + dy**2) / 4).max(1) + 0.05 * rng.standard_normal((count, 16, 16))
    x = image.clip(0, 1).reshape(count, 256).astype("float32")
    return x, ((spots.reshape(count, 6) - 8) / 8).astype("float32")


def model():
    net = nn.Sequential(nn.Linear(256, 50), nn.Linear(50, 100), nn.Linear(100, 6))
    for layer in net:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def problem():
    return ds.Problem(
        model=model, objective=nn.MSELoss(), train=faces(1500, 0), valid=faces(400, 1), metric="r2"
    )


def recipe():
    if FAULTY:
        return ds.Recipe(optimizer="adam", lr=0.1, batch_size=32, epochs=20)
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9, nesterov=True),
        clip_norm=1.0,
        batch_size=32,
        epochs=20,
    )
