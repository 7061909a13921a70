"""https://github.com/jindongwang/Deep-learning-activity-recognition/issues/10

A convolutional network tells six activities from nine channels of a phone's sensors. Its forward ends in
F.softmax(out, dim=1), and the loss is nn.CrossEntropyLoss.
Cause: CrossEntropyLoss applies the softmax itself; give it the raw outputs. The author agrees.
(Layers and recipe as there, the fully connected ones narrower; sensors are simulated.)
Root: output-activation
"""

import numpy as np
import torch
import torch.nn as nn

import downslope as ds

FAULTY = True


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(9, 32, (1, 9)), nn.ReLU(), nn.MaxPool2d((1, 2), stride=2))
        self.conv2 = nn.Sequential(nn.Conv2d(32, 64, (1, 9)), nn.ReLU(), nn.MaxPool2d((1, 2), stride=2))
        self.fc1 = nn.Sequential(nn.Linear(64 * 10, 200), nn.ReLU())
        self.fc2 = nn.Sequential(nn.Linear(200, 100), nn.ReLU())
        self.fc3 = nn.Sequential(nn.Linear(100, 6))

    def forward(self, x):
        out = self.conv1(x)
        out = self.conv2(out)
        out = out.reshape(-1, 64 * 10)
        out = self.fc3(self.fc2(self.fc1(out)))
        if FAULTY:
            out = nn.functional.softmax(out, dim=1)
        return out


def sensors(n, seed):
    """Nine channels: rest, or a swing with the activity's pace and pattern over the channels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 6, n)
    fixed = np.random.default_rng(9)
    pattern = fixed.normal(0, 0.5, (6, 9, 1))
    level = fixed.normal(0, 0.3, (6, 9, 1))
    pace = np.array([0.0, 0.0, 0.3, 0.35, 0.5, 0.0])[label, None, None] * rng.uniform(0.9, 1.1, (n, 1, 1))
    time = np.arange(64)[None, None] + rng.uniform(0, 20, (n, 1, 1))
    signal = level[label] + pattern[label] * np.sin(pace * time) + rng.normal(0, 0.8, (n, 9, 64))
    return torch.tensor(signal).float().view(n, 9, 1, 64), torch.tensor(label)


def problem():
    return ds.Problem(
        model=Network,
        objective=nn.CrossEntropyLoss(),
        train=sensors(1200, 0),
        valid=sensors(500, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.01, momentum=0.9),
        batch_size=64,
        epochs=15,
        seed=10,
    )
