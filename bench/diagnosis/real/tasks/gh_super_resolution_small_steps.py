"""https://github.com/kcct-fujimotolab/keras-super-resolution/commit/a7616b6342df4e3428e5e4d1be4cca591a82b0d7

Super-resolution (DeepLocalize, DeepFD): three convolutions of 128, 64 and 3 filters, a sigmoid at the end,
binary cross-entropy on pixels, Adam with rate 0.0001, 50 epochs over a handful of pictures. What comes out is
a grey blur.
Cause, by the benchmarks: learning rate, loss. The repository's commit: rate 0.001, squared error, and 3000
epochs by default. (Here digits of one channel enlarged to 16 x 16, a quarter of the filters, 300 pictures in
batches of 32; 6 and 30 epochs.)
Root: learning-rate-too-low, too-few-steps
"""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import downslope as ds

FAULTY = True


def pictures():
    sharp = load_digits().images[:400] / 16
    sharp = np.kron(sharp, np.ones((1, 2, 2)))
    blurred = np.pad(sharp, ((0, 0), (1, 1), (1, 1)), mode="edge")
    blurred = sum(blurred[:, i : i + 16, j : j + 16] for i in range(3) for j in range(3)) / 9
    return blurred[:, None].astype("float32"), sharp[:, None].astype("float32")


def build_model():
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding="same"),
        nn.ReLU(),
        nn.Conv2d(32, 16, 5, padding="same"),
        nn.ReLU(),
        nn.Conv2d(16, 1, 3, padding="same"),
        nn.Sigmoid(),
    )
    for conv in net[:5:2]:
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
    return net


def explained(p, y):
    """Of the variance of all pixels."""
    return 1 - ((p - y) ** 2).mean().item() / y.var().item()


explained.goal = "max"
CONSTANT = 0.0


def problem():
    x, y = pictures()
    return ds.Problem(
        model=build_model,
        objective=nn.BCELoss() if FAULTY else nn.MSELoss(),
        train=(x[:300], y[:300]),
        valid=(x[300:], y[300:]),
        metric=explained,
    )


def recipe():
    rate, epochs = (0.0001, 6) if FAULTY else (0.001, 30)
    return ds.Recipe(optimizer="adam", lr=rate, batch_size=32, epochs=epochs)
