"""https://stackoverflow.com/questions/44998910 (DeepFD)

Asked: a Keras model (200 and 45 relu units, SGD at its default rate of 0.01, batches of 50, 20 epochs) shall
fit a polynomial of the fourth degree; the predictions come out as good as straight.
Answered: it works with more epochs, 40, on x of 0 to 1 and x**4 + x**3 - x; DeepFD's patch raises the rate
(to 0.03). Both are in the twin. (3000 of the 9000 points, in both.)
Root: too-few-steps, learning-rate-too-low
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


def model():
    net = nn.Sequential(nn.Linear(1, 200), nn.ReLU(), nn.Linear(200, 45), nn.ReLU(), nn.Linear(45, 1))
    for layer in net[::2]:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def points(x):
    x = x.astype("float32").reshape(-1, 1)
    return x, x**4 + x**3 - x


def problem():
    train, test = points(np.random.default_rng(0).random(3000)), points(np.linspace(0, 1, 100))
    return ds.Problem(model=model, objective=nn.MSELoss(), train=train, valid=test, metric="r2")


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.01 if FAULTY else 0.03, batch_size=50, epochs=20 if FAULTY else 40)
