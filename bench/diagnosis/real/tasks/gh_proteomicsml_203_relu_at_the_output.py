"""https://github.com/ProteomicsML/ProteomicsML/pull/203

An LSTM reads peptides and predicts their retention time, with a ReLU behind the last linear layer. It
returns constantly 0 for all peptides of the validation set.
Cause: with an unlucky initialisation what goes into that ReLU is always, or almost always, negative, and
no gradient comes back. Remedy: no ReLU on the final regression layer. (Seed 1 is such a start.)
Root: output-activation, dead-units
"""

import numpy as np
import torch
from torch import nn

import downslope as ds

FAULTY = True


class Model(nn.Module):
    def __init__(self, embedding=16, hidden=32):
        super().__init__()
        self.embedding = nn.Embedding(21, embedding, padding_idx=0)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(self.embedding(x))
        y = self.out(torch.relu(self.dense(h[-1])))
        return torch.relu(y) if FAULTY else y


def peptides(n):
    rng = np.random.default_rng(0)
    weight = np.concatenate([[0.0], rng.normal(0, 1, 20)])
    length = rng.integers(7, 16, n)
    tokens = rng.integers(1, 21, (n, 16)) * (np.arange(16)[None] < length[:, None])
    tokens = tokens[:, ::-1].copy()
    time = weight[tokens].sum(1) + 0.2 * length
    time = (time - time.min()) / (time.max() - time.min())
    return torch.tensor(tokens), torch.tensor(time).float().view(-1, 1)


def problem():
    x, y = peptides(2400)
    return ds.Problem(
        model=Model,
        objective=nn.MSELoss(),
        train=(x[:2000], y[:2000]),
        valid=(x[2000:], y[2000:]),
        metric="r2",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adam(params, lr=0.002), batch_size=64, epochs=25, seed=1
    )
