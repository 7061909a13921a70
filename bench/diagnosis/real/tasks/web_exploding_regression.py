"""https://machinelearningmastery.com/how-to-avoid-exploding-gradients-in-neural-networks-with-gradient-clipping/

Told: make_regression with 20 features, a hidden layer of 25 relu units (He's initialisation), the squared
error and SGD with rate 0.01 and momentum 0.9. From the first epochs on the loss is NaN.
Cause: the targets, of some hundreds and not scaled, give errors whose gradients explode. Scale them, or
clip the gradient.
Root: unscaled-targets, exploding-gradient, learning-rate-too-high
"""

from sklearn.datasets import make_regression
from torch import nn

import downslope as ds

FAULTY = True


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(20, 25)
        nn.init.kaiming_uniform_(self.hidden.weight, nonlinearity="relu")
        self.out = nn.Linear(25, 1)

    def forward(self, x):
        return self.out(self.hidden(x).relu())


def problem():
    X, y = make_regression(n_samples=1000, n_features=20, noise=0.1, random_state=1)
    X, y = X.astype("float32"), y.astype("float32").reshape(-1, 1)
    if not FAULTY:
        y = (y - y[:500].mean()) / y[:500].std()
    return ds.Problem(
        model=MLP, objective="squared_error", train=(X[:500], y[:500]), valid=(X[500:], y[500:]), metric="r2"
    )


def recipe():
    return ds.Recipe(optimizer="momentum", lr=0.01, momentum=0.9, batch_size=32, epochs=100, seed=1)
