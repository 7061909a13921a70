"""https://github.com/HomericIntelligence/Mnemosyne/pull/1987

Tests of convergence fill the weights of a small convolutional network with one value for each layer. The
loss stays at the logarithm of the number of classes, and the framework is taken to be broken.
Cause, found after half an hour: with uniform weights the gradient that goes up through the linear layer, the
softmax and the cross-entropy is zero but for rounding. Remedy: weights that differ.
Root: symmetric-init
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.fc1 = nn.Linear(8 * 9, 32)
        self.fc2 = nn.Linear(32, 10)
        if FAULTY:
            for layer, value in ((self.conv, 0.1), (self.fc1, 0.05), (self.fc2, 0.05)):
                nn.init.constant_(layer.weight, value)
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def problem():
    digits = ds.data.digits(scale=16)
    (x, y), (xv, yv) = digits.train, digits.valid
    return ds.Problem(
        model=SmallNet,
        objective="cross_entropy",
        train=(x.view(-1, 1, 8, 8), y),
        valid=(xv.view(-1, 1, 8, 8), yv),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.05), batch_size=32, epochs=12, seed=0
    )
