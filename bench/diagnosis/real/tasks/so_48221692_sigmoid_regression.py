"""https://stackoverflow.com/questions/48221692

Asked: a Keras network of five sigmoid units and one more shall learn y = x squared + 3 for x from -10 to 10
(SGD, full batch, 1000 epochs). It gives the same value for every x.
Answered: the last layer has a sigmoid, so that it cannot leave 0 to 1, and the targets go to 103: it has to
be linear.
Root: output-activation, unscaled-targets
"""

import numpy as np
from sklearn.model_selection import train_test_split
from torch import nn

import downslope as ds

FAULTY = True


def model():
    layers = [nn.Linear(1, 5), nn.Sigmoid(), nn.Linear(5, 1)]
    return nn.Sequential(*layers, nn.Sigmoid()) if FAULTY else nn.Sequential(*layers)


def problem():
    x = np.linspace(-10, 10, 201, dtype="float32").reshape(-1, 1)
    X_train, X_test, Y_train, Y_test = train_test_split(x, x**2 + 3, test_size=0.25, random_state=7)
    return ds.Problem(
        model=model, objective=nn.MSELoss(), train=(X_train, Y_train), valid=(X_test, Y_test), metric="r2"
    )


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.01, batch_size="full", epochs=3000, seed=7)
