"""https://stackoverflow.com/questions/39525358

Asked: a table of three columns of character codes (65 to 70, the letters A to F) and a label, a small Keras
network with Adam and batches of one, 150 epochs. Whatever is changed, the accuracy stays at that of the
larger class, 0.615.
Answered: the inputs are far from zero; a StandardScaler before the network brings the accuracy to one.
Root: unscaled-inputs
"""

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

import downslope as ds

FAULTY = True


def dense(inputs, outputs):
    layer = nn.Linear(inputs, outputs)
    nn.init.uniform_(layer.weight, -0.05, 0.05)
    nn.init.zeros_(layer.bias)
    return layer


def model():
    return nn.Sequential(
        dense(3, 12), nn.ReLU(), dense(12, 3), nn.ReLU(), dense(3, 1), nn.Sigmoid(), nn.Flatten(0)
    )


def accuracy(p, y):
    return ((p > 0.5).float() == y).float().mean().item()


accuracy.goal = "max"


def problem():
    rng = np.random.default_rng(7)
    words = np.array([[65, 66, 67], [65, 66, 70], [68, 69, 70], [68, 69, 67]], dtype="float32")
    which = rng.choice(4, size=39, p=[0.45, 0.15, 0.3, 0.1])
    X, Y = words[which], (which >= 2).astype("float32")
    if not FAULTY:
        X = StandardScaler().fit_transform(X)
    X_train, X_test, y_train, y_test = train_test_split(X, Y, test_size=0.33, random_state=7, stratify=Y)
    return ds.Problem(
        model=model, objective=nn.BCELoss(), train=(X_train, y_train), valid=(X_test, y_test), metric=accuracy
    )


def recipe():
    return ds.Recipe(optimizer="adam", batch_size=1, epochs=150, seed=7)
