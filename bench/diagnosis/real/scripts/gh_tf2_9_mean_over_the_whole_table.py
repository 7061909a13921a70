"""https://github.com/wikibook/tf2/issues/9

A book's regression of house prices in Boston. The features ought to be normalised one by one, but the code
x_mean = train_X.mean(); x_std = train_X.std() takes the mean of all numbers of the table (69.79): taxes of
hundreds beside shares below one stay as unequal as they were.
Remedy, confirmed by the author: axis=0, mean and deviation of each column; code and figures were redone.
(A table with the scales of Boston's, made up; the score is R2.)
Root: ill-conditioned, unscaled-inputs
"""

import numpy as np
import torch
from torch import nn

FAULTY = True

rng = np.random.default_rng(9)
N = 1000
base = rng.normal(size=(N, 4))


def column(mean, std, weights, noise=0.8):
    z = base @ np.array(weights) / np.linalg.norm(weights) + noise * rng.normal(size=N)
    return mean + std * z / np.sqrt(1 + noise**2)


X = np.stack(
    [
        np.exp(column(0.0, 1.2, [1, 0, 0.5, 0])),  # crime
        np.clip(column(11, 18, [0, 1, 0, 0]), 0, 100),  # large plots
        column(11, 5, [0.5, -1, 0, 0]),  # industry
        (rng.random(N) < 0.08).astype(float),  # river
        column(0.55, 0.11, [0.7, -0.5, 0, 0]),  # nitric oxides
        column(6.28, 0.7, [0, 0, -1, 0.3]),  # rooms
        np.clip(column(68, 28, [0.3, -0.6, 0, 0.4]), 3, 100),  # age
        column(3.8, 1.6, [-0.6, 0.7, 0, 0]),  # distance
        rng.integers(1, 25, N).astype(float),  # highways
        column(408, 120, [0.9, 0, 0, 0.2]),  # tax
        column(18.4, 2.1, [0.3, -0.3, 0.2, 0]),  # pupils per teacher
        np.clip(column(357, 80, [-0.6, 0, 0, 0]), 0, 397),
        column(12.6, 6, [0.3, 0, 1, 0]),  # lower status
    ],
    axis=1,
)
z = (X - X.mean(0)) / X.std(0)
Y = 22.5 + 9.2 * (
    0.55 * z[:, 5] - 0.3 * np.abs(z[:, 4]) + 0.35 * z[:, 3] - 0.25 * z[:, 10] + 0.3 * np.tanh(z[:, 7])
)
Y = (Y + rng.normal(0, 1.5, N))[:, None]
train_X, train_Y, test_X, test_Y = X[:800], Y[:800], X[800:], Y[800:]

if FAULTY:
    x_mean, x_std = train_X.mean(), train_X.std()
else:
    x_mean, x_std = train_X.mean(axis=0), train_X.std(axis=0)
train_X = (train_X - x_mean) / x_std
test_X = (test_X - x_mean) / x_std
y_mean, y_std = train_Y.mean(), train_Y.std()
train_Y, test_Y = (train_Y - y_mean) / y_std, (test_Y - y_mean) / y_std
train_X, train_Y, test_X, test_Y = (
    torch.tensor(a, dtype=torch.float32) for a in (train_X, train_Y, test_X, test_Y)
)
print(f"constant={0.0:.4f}")

torch.manual_seed(9)
model = nn.Sequential(
    nn.Linear(13, 52), nn.ReLU(), nn.Linear(52, 39), nn.ReLU(), nn.Linear(39, 26), nn.ReLU(), nn.Linear(26, 1)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.07)
mse = nn.MSELoss()
n_val = len(train_X) // 4
val_X, val_Y, fit_X, fit_Y = train_X[:n_val], train_Y[:n_val], train_X[n_val:], train_Y[n_val:]
for epoch in range(15):
    model.train()
    order = torch.randperm(len(fit_X))
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        loss = mse(model(fit_X[rows]), fit_Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        val_loss = mse(model(val_X), val_Y).item()
    print(f"Epoch {epoch + 1}/15 - loss: {loss.item():.4f} - val_loss: {val_loss:.4f}")
with torch.no_grad():
    error = mse(model(test_X), test_Y) / test_Y.var(unbiased=False)
print(f"score={1 - error.item():.4f}")
