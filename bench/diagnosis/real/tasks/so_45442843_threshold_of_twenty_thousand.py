"""https://stackoverflow.com/questions/45442843 (DeepLocalize, DeepFD)

Asked: numbers of 15000 to 25000, label 1 below about 20000 and 0 above: a Keras network of one sigmoid unit
and one softmax unit (mean absolute error, RMSprop, batches of 200, 100 epochs) never leaves its first
accuracy.
Cause, by the benchmark: a softmax over one unit is always 1, and inputs of 20000 saturate the sigmoid. Scale
the input, sigmoid at the end, binary cross-entropy. (Batches of 20 in both.)
Root: output-activation, unscaled-inputs, saturated-units, objective-mismatch
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


def model():
    first, last = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.xavier_uniform_(first.weight)
    nn.init.zeros_(first.bias)
    nn.init.normal_(last.weight, std=0.05)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.Sigmoid(), last, nn.Softmax(dim=1) if FAULTY else nn.Sigmoid())


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    x = np.random.default_rng(0).integers(15000, 25000, (1000, 1)).astype("float32")
    y = (x < 20020).astype("float32")
    if not FAULTY:
        x = (x - x.mean()) / x.std()
    return ds.Problem(
        model=model,
        objective=nn.L1Loss() if FAULTY else nn.BCELoss(),
        train=(x[:800], y[:800]),
        valid=(x[800:], y[800:]),
        metric=accuracy,
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.RMSprop(params, lr=0.001, alpha=0.9, eps=1e-7),
        batch_size=20,
        epochs=100,
    )
