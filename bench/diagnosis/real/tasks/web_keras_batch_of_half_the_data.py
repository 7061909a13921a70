"""https://packtpub.com/en-tr/product/neural-networks-with-keras-cookbook-9781789346640

(The section on the impact of batch size on model accuracy.)

Digits, the same network and the same number of epochs with batches of 32 and of 30000, which is half of the
data: the accuracy is much lower with the large ones.
Cause by the book: the number of weight updates is so much smaller; the lower the batch size, the more often
the weights are updated for the same number of epochs.
Root: batch-too-large, too-few-steps
"""

from torch import nn

import downslope as ds

FAULTY = True


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10)),
        objective="cross_entropy",
        train=digits.train,
        valid=digits.valid,
        metric="accuracy",
    )


def recipe():
    size = 719 if FAULTY else 32
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=size, epochs=10, seed=0)
