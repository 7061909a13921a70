"""https://github.com/shiningrain/AUTOTRAINER (demo_case/Gradient_Vanish_Case)

AutoTrainer's demonstration of a vanishing gradient: two circles (700 points, noise 0.1), eight hidden layers
of five sigmoid units with He's initialisation, Adam with rate 0.001, batches of 128, 300 epochs. The accuracy
stays at a half.
Remedy, the first that AutoTrainer tries: relu in the hidden layers, and batch normalisation behind them.
Root: vanishing-gradient, saturated-units, plateau
"""

from sklearn.datasets import make_circles
from torch import nn

import downslope as ds

FAULTY = True


def model():
    layers, inputs = [], 2
    for _ in range(8):
        dense = nn.Linear(inputs, 5)
        nn.init.kaiming_uniform_(dense.weight, nonlinearity="relu")
        nn.init.zeros_(dense.bias)
        layers += [dense, nn.Sigmoid()] if FAULTY else [dense, nn.BatchNorm1d(5), nn.ReLU()]
        inputs = 5
    return nn.Sequential(*layers, nn.Linear(5, 1), nn.Sigmoid())


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    x, y = make_circles(n_samples=1000, noise=0.1, random_state=1)
    x, y = x.astype("float32"), y.astype("float32").reshape(-1, 1)
    return ds.Problem(
        model=model,
        objective=nn.BCELoss(),
        train=(x[:700], y[:700]),
        valid=(x[700:], y[700:]),
        metric=accuracy,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=128, epochs=300)
