"""https://github.com/DeepDiagnosis/ICSE2022 (AUTOTRAINER Model Code/Models_Circle.py, model_0ae2cd88)

A model of AutoTrainer's set that DeepDiagnosis repairs: two circles, eight hidden layers of five units with
the exponential as their activation, He's initialisation, a sigmoid at the end. The loss explodes or is no
number.
Remedy, the one AutoTrainer took for such models: selu in the hidden layers. (Adam with rate 0.001, batches
of 32, 100 epochs, as most of that set.)
Root: exploding-gradient
"""

import torch
from sklearn.datasets import make_circles
from torch import nn

import downslope as ds

FAULTY = True


class Exponential(nn.Module):
    def forward(self, x):
        return torch.exp(x)


def model():
    layers, inputs = [], 2
    for _ in range(8):
        dense = nn.Linear(inputs, 5)
        nn.init.kaiming_uniform_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, Exponential() if FAULTY else nn.SELU()]
        inputs = 5
    return nn.Sequential(*layers, nn.Linear(5, 1))


def accuracy(logit, y):
    return ((logit > 0).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    x, y = make_circles(n_samples=1000, noise=0.1, random_state=1)
    x, y = x.astype("float32"), y.astype("float32").reshape(-1, 1)
    return ds.Problem(
        model=model,
        objective=nn.BCEWithLogitsLoss(),
        train=(x[:700], y[:700]),
        valid=(x[700:], y[700:]),
        metric=accuracy,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=100)
