"""https://github.com/tebesu/CollaborativeMemoryNetwork/issues/5

A recommender is re-implemented in PyTorch; its loss does not converge.
Answer: RMSprop is given weight_decay=config.decay_rate. In PyTorch weight_decay is the L2 penalty, not
the decay rate of the moving average (which is alpha, and 0.9 there).
Root: over-regularised
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


class Recommender(nn.Module):
    def __init__(self, users=120, items=90, size=16):
        super().__init__()
        self.user = nn.Embedding(users, size)
        self.item = nn.Embedding(items, size)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        self.hop = nn.Linear(3 * size, 32)
        self.out = nn.Linear(32, 1)

    def forward(self, users, items):
        u, i = self.user(users), self.item(items)
        return self.out(torch.relu(self.hop(torch.cat([u, i, u * i], dim=1))))


def ratings():
    rng = np.random.default_rng(0)
    taste, kind = rng.normal(size=(120, 3)), rng.normal(size=(90, 3))
    users, items = rng.integers(0, 120, 8000), rng.integers(0, 90, 8000)
    liked = (taste[users] * kind[items]).sum(1) > 0
    return torch.tensor(users), torch.tensor(items), torch.tensor(liked).float().view(-1, 1)


def problem():
    users, items, liked = ratings()
    return ds.Problem(
        model=Recommender,
        objective=nn.BCEWithLogitsLoss(),
        train=(users[:6400], items[:6400], liked[:6400]),
        valid=(users[6400:], items[6400:], liked[6400:]),
        metric="accuracy",
    )


def rmsprop(params):
    if FAULTY:
        return torch.optim.RMSprop(params, lr=0.001, momentum=0.9, weight_decay=0.9)
    return torch.optim.RMSprop(params, lr=0.001, momentum=0.9, alpha=0.9)


def recipe():
    return ds.Recipe(optimizer=rmsprop, batch_size=128, epochs=15, seed=0)
