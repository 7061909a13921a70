"""https://stackoverflow.com/questions/45337371 (DeepLocalize, DeepFD)

Asked: a Keras network (five features, 60 and 50 relu units, Dense(1, activation='softmax'), binary
cross-entropy, Adam): why is the gradient of its output always zero?
Cause, by the benchmarks: a softmax over one unit is the constant 1, and a constant has no gradient. A
sigmoid has one. (The asker's data are random; here the label depends on the features.)
Root: output-activation
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


class Dense(nn.Linear):
    def reset_parameters(self):
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class Net(nn.Module):
    def __init__(self, num_features=5):
        super().__init__()
        self.body = nn.Sequential(Dense(num_features, 60), nn.ReLU(), Dense(60, 50), nn.ReLU())
        self.last = Dense(50, 1)

    def forward(self, x):
        out = self.last(self.body(x))
        return out.softmax(dim=-1) if FAULTY else out.sigmoid()


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    x = np.random.default_rng(0).uniform(size=(1200, 5)).astype("float32")
    y = (x[:, :1] * x[:, 1:2] + x[:, 2:3] > x[:, 3:4] + 0.5 * x[:, 4:]).astype("float32")
    return ds.Problem(
        model=Net, objective=nn.BCELoss(), train=(x[200:], y[200:]), valid=(x[:200], y[:200]), metric=accuracy
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=4, epochs=8)
