"""https://github.com/yhs968/pyGRU4REC/issues/8

Sessions of clicks in a GRU, step by step, with hidden = reset_hidden(hidden, mask).detach() at each step.
Asked: then the loss of time t reaches time t - 1 at most, and the model is like a Markov chain rather than
a recurrent network.
The maintainer agrees; remedy: keep the graph within a session. (Made up: sessions of ten clicks; what is
bought hangs on the first click.)
Root: long-term-dependency
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True
ITEMS, CLICKS = 12, 10


def sessions(count, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, ITEMS, (count, CLICKS), generator=g)
    return x, x[:, 0] % 4


class GRU4REC(nn.Module):
    def __init__(self, hidden_size=48):
        super().__init__()
        self.hidden_size = hidden_size
        self.gru = nn.GRUCell(ITEMS, hidden_size)
        self.h2o = nn.Linear(hidden_size, 4)

    def forward(self, session):
        hidden = torch.zeros(session.shape[0], self.hidden_size)
        for click in session.unbind(1):
            if FAULTY:
                hidden = hidden.detach()
            hidden = self.gru(F.one_hot(click, ITEMS).float(), hidden)
        return self.h2o(hidden)


def problem():
    return ds.Problem(
        model=GRU4REC,
        objective="cross_entropy",
        train=sessions(2000, 0),
        valid=sessions(500, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=50, epochs=15, seed=0)
