"""https://discuss.pytorch.org/t/cross-entropy-loss-is-not-decreasing/43814/16

Ten classes of pictures, a convolutional network, Adam. The loss stays at 2.30 from the first epoch on, as
for guessing.
Answer: the parameters became almost all negative, the ReLUs give nothing and all derivatives are 0. Use a
smaller learning rate (or one that decreases), or SGD instead of Adam. (The rate of the asker is not told;
here 0.1.)
Root: learning-rate-too-high, dead-units
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(128, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = self.pool(nn.functional.relu(self.conv1(x)))
        x = self.pool(nn.functional.relu(self.conv2(x)))
        x = nn.functional.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


def problem():
    digits = ds.data.digits(scale=16)
    (x, y), (xv, yv) = digits.train, digits.valid
    return ds.Problem(
        model=CNN,
        objective=nn.CrossEntropyLoss(),
        train=(x.view(-1, 1, 8, 8), y),
        valid=(xv.view(-1, 1, 8, 8), yv),
        metric="accuracy",
    )


def recipe():
    lr = 0.1 if FAULTY else 0.001
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adam(params, lr=lr), batch_size=64, epochs=15, seed=0
    )
