"""https://machinelearningmastery.com/how-to-fix-vanishing-gradients-using-the-rectified-linear-activation-function/

Told (and taken into AutoTrainer's benchmark): two circles, points scaled to -1 to 1, five hidden layers of
five tanh units with weights drawn from 0 to 1, SGD with rate 0.01 and momentum 0.9. The accuracy stays near
0.5.
Cause: through five such layers the gradient vanishes; relu with He's initialisation learns it.
Root: vanishing-gradient, init-scale, saturated-units
"""

import torch
from sklearn.datasets import make_circles
from sklearn.preprocessing import MinMaxScaler
from torch import nn

import downslope as ds

FAULTY = True


def hidden(inputs):
    layer = nn.Linear(inputs, 5)
    if FAULTY:
        nn.init.uniform_(layer.weight, 0.0, 1.0)
    else:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return [layer, nn.Tanh() if FAULTY else nn.ReLU()]


def model():
    layers = hidden(2)
    for _ in range(4):
        layers += hidden(5)
    last = nn.Linear(5, 1)
    if FAULTY:
        nn.init.uniform_(last.weight, 0.0, 1.0)
    return nn.Sequential(*layers, last, nn.Sigmoid())


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    X, y = make_circles(n_samples=1000, noise=0.1, random_state=1)
    X = torch.tensor(MinMaxScaler(feature_range=(-1, 1)).fit_transform(X), dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    return ds.Problem(
        model=model,
        objective=nn.BCELoss(),
        train=(X[:500], y[:500]),
        valid=(X[500:], y[500:]),
        metric=accuracy,
    )


def recipe():
    return ds.Recipe(optimizer="momentum", lr=0.01, momentum=0.9, batch_size=32, epochs=500, seed=1)
