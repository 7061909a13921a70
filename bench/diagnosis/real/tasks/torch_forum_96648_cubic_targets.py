"""https://discuss.pytorch.org/t/neural-network-could-not-learn-on-this-type-of-data-why/96648

A small network is to learn y = x**3 for x = 1 ... 3999 by Adam on the squared error. It does not learn.
Answer: normalise the input, and normalise the target as well (they go up to 6e10); undo it for the
prediction. With both the same network learns in 1000 epochs.
Root: unscaled-targets, unscaled-inputs
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(in_features=1, out_features=50, bias=True)
        self.fc2 = nn.Linear(in_features=50, out_features=1, bias=True)

    def forward(self, x):
        x = nn.functional.relu(self.fc1(x))
        return self.fc2(x)


def problem():
    x = torch.arange(1, 4000).float().unsqueeze(1)
    y = x**3
    if not FAULTY:
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, valid = order[:3200], order[3200:]
    return ds.Problem(
        model=Network,
        objective=nn.MSELoss(),
        train=(x[train], y[train]),
        valid=(x[valid], y[valid]),
        metric="r2",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adam(params, lr=1e-3), batch_size="full", steps=1000, seed=0
    )
