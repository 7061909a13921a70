"""https://github.com/shiningrain/AUTOTRAINER (demo_case/Oscillating_Loss_Case)

AutoTrainer's demonstration of an oscillating loss: three blobs in the plane (700 points), 50 relu units with
He's initialisation, a softmax, SGD with rate 0.01 and momentum 0.9, batches of 1, 200 epochs; the loss and
the accuracy jump up and down.
Remedy, of those AutoTrainer tries: larger batches (64 here), a smaller rate. (Here 10 epochs, which are 7000
steps; the twin has 100, which are 1100.)
Root: noisy-gradient, oscillation, learning-rate-too-high, unscaled-inputs
"""

from sklearn.datasets import make_blobs
from torch import nn

import downslope as ds

FAULTY = True


def model():
    net = nn.Sequential(nn.Linear(2, 50), nn.ReLU(), nn.Linear(50, 3))
    nn.init.kaiming_uniform_(net[0].weight, nonlinearity="relu")
    nn.init.xavier_uniform_(net[2].weight)
    for layer in (net[0], net[2]):
        nn.init.zeros_(layer.bias)
    return net


def problem():
    x, y = make_blobs(n_samples=1000, centers=3, n_features=2, cluster_std=2, random_state=2)
    x = x.astype("float32")
    return ds.Problem(
        model=model,
        objective="cross_entropy",
        train=(x[:700], y[:700]),
        valid=(x[700:], y[700:]),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer="sgd", lr=0.01, momentum=0.9, batch_size=1 if FAULTY else 64, epochs=10 if FAULTY else 100
    )
