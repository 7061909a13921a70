"""https://github.com/rstudio-conf-2020/dl-keras-tf/issues/9

The mini project of a workshop, the prices of houses in Ames: with optimizer_sgd(lr = 0.1) and
loss = "mean_squared_error" the loss is nan from the first epoch on.
Reason given: the range of the target, which reaches 755000; the squared error explodes. That is why the
instructions recommend the logarithm (msle).
(Houses made up; the twin takes the logarithm, standardised. The score is R2 of the price.)
Root: unscaled-targets, learning-rate-too-high
"""

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

FAULTY = True


def make_ames(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    area, lot = rng.lognormal(7.2, 0.3, n), rng.lognormal(9.1, 0.4, n)
    quality, condition = rng.integers(2, 11, n), rng.integers(3, 10, n)
    built = rng.integers(1900, 2011, n)
    baths, garage, fireplaces = rng.integers(1, 4, n), rng.integers(0, 4, n), rng.integers(0, 3, n)
    log_price = (
        12
        + 0.6 * (np.log(area) - 7.2)
        + 0.1 * (np.log(lot) - 9.1)
        + 0.11 * (quality - 6)
        + 0.003 * (built - 1970)
    )
    log_price += 0.03 * (condition - 6) + 0.04 * garage + 0.05 * fireplaces + 0.03 * baths
    price = np.exp(log_price + rng.normal(0, 0.1, n))
    return np.stack([area, lot, quality, condition, built, baths, garage, fireplaces], axis=1), price


torch.manual_seed(0)
features, price = make_ames(seed=0)
x_train, x_test, y_train, y_test = train_test_split(features, price, test_size=0.3, random_state=0)
x_train, x_val, y_train, y_val = train_test_split(x_train, y_train, test_size=0.2, random_state=0)
scaler = StandardScaler().fit(x_train)
x_train, x_val, x_test = (
    torch.tensor(scaler.transform(a), dtype=torch.float32) for a in (x_train, x_val, x_test)
)
print("constant=0.0000")

mean, std = np.log(y_train).mean(), np.log(y_train).std()


def prepare(y):
    y = y if FAULTY else (np.log(y) - mean) / std
    return torch.tensor(y, dtype=torch.float32).unsqueeze(1)


t_train, t_val = prepare(y_train), prepare(y_val)

network = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer_sgd = torch.optim.SGD(network.parameters(), lr=0.1)
mean_squared_error = nn.MSELoss()

for epoch in range(10):
    network.train()
    for rows in torch.randperm(len(x_train)).split(16):
        loss = mean_squared_error(network(x_train[rows]), t_train[rows])
        optimizer_sgd.zero_grad()
        loss.backward()
        optimizer_sgd.step()
    network.eval()
    with torch.no_grad():
        val_loss = mean_squared_error(network(x_val), t_val)
    print(f"Epoch {epoch + 1}/10 - loss: {loss.item():.4f} - val_loss: {val_loss.item():.4f}")

with torch.no_grad():
    found = network(x_test).squeeze(1).numpy().astype(float)
if not FAULTY:
    found = np.exp(found * std + mean)
found = np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
print(f"score={1 - np.mean((found - y_test) ** 2) / np.var(y_test):.4f}")
