"""https://github.com/yetanotherdeveloper/kaggle-melbourne_properties/commit/3d11b400a5

Prices of houses (DeepLocalize, DeepFD): some dozen columns as they are (year built, land size, postcode,
numbers for suburbs), two layers of 20 tanh units and one linear unit, mean absolute error, Adam. The
author's note beside the model: "MAE: 922165", about the price itself.
Cause, by the benchmark: the activation and the kind of model. tanh is full at such inputs and gives at most
1, the price is a million; the same program's relu model passes the large values on. (Self-made houses,
batches of 8 instead of 1.)
Root: unscaled-targets, unscaled-inputs, saturated-units
"""

import numpy as np
from torch import nn

import downslope as ds

FAULTY = True


def houses(count, seed):
    rng = np.random.default_rng(seed)
    rooms = rng.integers(1, 7, count)
    distance = rng.gamma(3.0, 4.0, count)
    bath = np.maximum(1, rooms - rng.integers(1, 4, count))
    land = rng.gamma(4.0, 150.0, count)
    area = 30 * rooms + rng.gamma(3.0, 15.0, count)
    year = rng.integers(1880, 2018, count)
    region, suburb = rng.integers(0, 8, count), rng.integers(0, 300, count)
    postcode = 3000 + suburb
    latitude, longitude = -37.8 + 0.1 * rng.standard_normal((2, count)) + [[0.0], [182.8]]
    price = 250_000 + 2500 * area + 600 * land + 90_000 * bath - 15_000 * distance + 1500 * (2018 - year)
    price = np.maximum(price + 80_000 * rng.standard_normal(count), 150_000)
    columns = [rooms, distance, postcode, bath, land, area, year, latitude, longitude, region, suburb]
    return np.stack(columns, 1).astype("float32"), price.astype("float32").reshape(-1, 1)


def make_model():
    layers, inputs = [], 11
    for units in (20, 20):
        layers += [nn.Linear(inputs, units), nn.Tanh() if FAULTY else nn.ReLU()]
        inputs = units
    net = nn.Sequential(*layers, nn.Linear(20, 1))
    for layer in net[::2]:
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return net


def problem():
    return ds.Problem(
        model=make_model, objective=nn.L1Loss(), train=houses(1600, 0), valid=houses(400, 1), metric="r2"
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=8, epochs=45)
