"""https://stackoverflow.com/questions/47724077

Asked: the census table "adult" (age, a weight of some 190,000, years at school, gains, hours and coded
categories) goes into a Keras network of 21 relu units. The accuracy stays at that of the larger class, the
loss is huge.
Answered: the columns have scales that are worlds apart; standardise them first.
Root: unscaled-inputs
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


def census(count, rng):
    """A table with the columns, the scales and the share of the larger class that "adult" has."""
    age = rng.integers(17, 90, count)
    weight = rng.gamma(3.2, 59_000, count)
    school = rng.integers(1, 17, count)
    hours = np.clip(rng.normal(40, 12, count), 1, 99)
    married = rng.integers(0, 2, count)
    sex = rng.integers(0, 2, count)
    codes = [rng.integers(0, most, count) for most in (9, 16, 15, 5, 42)]
    worth = 0.05 * (age - 38) + 0.45 * (school - 10) + 0.05 * (hours - 40) + 2.5 * married + 0.5 * sex
    rich = worth + rng.logistic(0, 0.6, count) > 3.0
    gain = np.where(rich & (rng.random(count) < 0.2), rng.integers(5_000, 99_999, count), 0)
    loss = np.where(rng.random(count) < 0.04, rng.integers(100, 4_000, count), 0)
    table = np.stack([age, weight, school, hours, married, sex, gain, loss, *codes], axis=1)
    return table.astype("float32"), rich.astype("int64")


def model():
    return nn.Sequential(nn.Linear(13, 21), nn.ReLU(), nn.Linear(21, 2))


def problem():
    X, Y = census(6000, np.random.default_rng(0))
    if not FAULTY:
        X = (X - X.mean(0)) / X.std(0)
    return ds.Problem(
        model=model,
        objective="cross_entropy",
        train=(X[:5000], Y[:5000]),
        valid=(X[5000:], Y[5000:]),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=100, epochs=25)
