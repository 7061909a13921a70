"""https://stackoverflow.com/questions/33969059 (DeepLocalize, DeepFD)

Asked: a Keras network (three tanh units, two tanh units, one softmax, dropout of a half after both) shall
learn y = 2 a + b + 0.5 c + 2.2 for values of 0 to 10000. The loss does not move, the accuracy is zero.
Cause, by the benchmarks: a softmax over one unit is 1 whatever comes; it wants a linear output. DeepFD adds
that this alone does not help: inputs of thousands saturate tanh, targets of 35000 are out of reach, and half
of two units are dropped. The twin has a linear output, scaled data and no dropout. (Here 5000 points of the
100000, and the rate 0.01 for 0.1.)
Root: output-activation, unscaled-targets, unscaled-inputs, saturated-units, over-regularised
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


def layer(inputs, units):
    dense = nn.Linear(inputs, units)
    nn.init.uniform_(dense.weight, -0.05, 0.05)
    nn.init.zeros_(dense.bias)
    return dense


def model():
    drop = 0.5 if FAULTY else 0.0
    return nn.Sequential(
        layer(3, 3),
        nn.Tanh(),
        nn.Dropout(drop),
        layer(3, 2),
        nn.Tanh(),
        nn.Dropout(drop),
        layer(2, 1),
        nn.Softmax(dim=1) if FAULTY else nn.Identity(),
    )


def get_data(count, seed):
    x = 10000 * np.random.default_rng(seed).random((count, 3))
    y = x @ [[2.0], [1.0], [0.5]] + 2.2
    if not FAULTY:
        x, y = x / 5000 - 1, y / 17500 - 1
    return x.astype("float32"), y.astype("float32")


def problem():
    return ds.Problem(
        model=model, objective=nn.MSELoss(), train=get_data(5000, 0), valid=get_data(500, 1), metric="r2"
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9, nesterov=True),
        batch_size=32,
        epochs=20,
    )
