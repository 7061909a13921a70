"""https://stackoverflow.com/questions/52800582

Asked: a Keras network (50 sigmoid, 50 elu, Adam) learns y = x to the third a little, y = x to the fourth
not at all, for 400 values of x from -100 to 100.
Answered: inputs of 100 saturate the sigmoid, and targets of 1e8 are out of reach of weights that start near
0.3 and move by 0.001 a step. Scale both.
Root: unscaled-targets, unscaled-inputs
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


def model():
    net = nn.Sequential(nn.Linear(1, 50), nn.Sigmoid(), nn.Linear(50, 50), nn.ELU(), nn.Linear(50, 1))
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return net


def problem():
    x = np.arange(-100, 100, 0.5)
    y = x**4
    if not FAULTY:
        x, y = x / 100, y / 1e8
    data = x.astype("float32").reshape(400, 1), y.astype("float32").reshape(400, 1)
    return ds.Problem(model=model, objective=nn.MSELoss(), train=data, valid=data, metric="r2")


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size="full", epochs=2000)
