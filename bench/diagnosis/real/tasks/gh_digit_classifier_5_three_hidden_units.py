"""https://github.com/kdexd/digit-classifier/issues/5

Digits by a network of layers = [784, 3, 4, 10] of sigmoid units: 14 % after ten epochs.
Cause, by the asker: the hidden layers are too small; layers of 256 give 90 %. (Here 64 inputs; the rate is
Adam's own, and the twin is 64 wide.)
Root: high-bias
"""

from torch import nn

import downslope as ds

FAULTY = True


def model():
    first, second = (3, 4) if FAULTY else (64, 64)
    return nn.Sequential(
        nn.Linear(64, first), nn.Sigmoid(), nn.Linear(first, second), nn.Sigmoid(), nn.Linear(second, 10)
    )


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=model, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=16, epochs=20, seed=0)
