"""https://stackoverflow.com/questions/48251943 (DeepLocalize, DeepFD)

Asked: two columns of a table with values of -1 to 3 shall predict a third; Keras, Dense(4, relu), Dense(1,
relu), SGD, squared error, 50 epochs with batches of 10. Many or all predictions are exactly zero.
Cause, by the benchmark: a relu at the output gives nothing below zero, and once it is off it stays off. The
remedy is tanh there. (The asker's table is of a few random rows; here 300 rows, the target between -1 and 1.)
Root: output-activation, dead-units
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


def model():
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1), nn.ReLU() if FAULTY else nn.Tanh())
    for layer in (net[0], net[2]):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def problem():
    rng = np.random.default_rng(7)
    x = rng.uniform(-1, 2.5, (400, 2))
    a, b = x[:, :1], x[:, 1:]
    y = np.tanh(0.8 * (a - b) - 0.5 * np.abs(a - 0.5)) + 0.05 * rng.standard_normal((400, 1))
    x, y = x.astype("float32"), y.astype("float32")
    return ds.Problem(
        model=model, objective=nn.MSELoss(), train=(x[100:], y[100:]), valid=(x[:100], y[:100]), metric="r2"
    )


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.01, batch_size=10, epochs=50)
