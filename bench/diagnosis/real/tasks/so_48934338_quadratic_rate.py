"""https://stackoverflow.com/questions/48934338

Asked: 50 points of y = 5 x squared, with cubed noise, for x from 0 to 5, and a Keras network of 50 and 30
relu units with SGD at rate 0.1. The predictions are NaN, or a flat line.
Answered: the rate is too high for it; 0.001 gives the curve.
Root: learning-rate-too-high, unscaled-targets
"""

import numpy as np
import torch

import downslope as ds

FAULTY = True


def model():
    net = torch.nn.Sequential(
        torch.nn.Linear(1, 50),
        torch.nn.ReLU(),
        torch.nn.Linear(50, 30),
        torch.nn.ReLU(),
        torch.nn.Linear(30, 1),
    )
    torch.nn.init.uniform_(net[2].weight, -0.05, 0.05)
    return net


def problem():
    rng = np.random.default_rng(7)
    X = np.arange(0.0, 5.0, 0.1, dtype="float32").reshape(-1, 1)
    y = 5 * np.power(X, 2) + np.power(rng.standard_normal((50, 1)), 3)
    data = (X, y.astype("float32"))
    return ds.Problem(model=model, objective="squared_error", train=data, valid=data, metric="r2")


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.1 if FAULTY else 0.001, batch_size=32, epochs=1000, seed=7)
