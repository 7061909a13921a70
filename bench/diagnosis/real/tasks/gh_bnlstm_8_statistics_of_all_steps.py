"""https://github.com/iassael/torch-bnlstm/issues/8 (also jihunchoi/recurrent-batch-normalization-pytorch,
issue 1, and Element-Research/rnn, issue 252, where the results "don't look good" at evaluation)

A recurrent network with batch normalisation. Asked: in training each time step is normalised by its own
statistics, but the running mean and variance are shared by all steps, and those are what evaluation takes.
Cause: no step has the statistics of all steps together. Remedy, as in the paper: running statistics for
each step. (Made up: growth curves, whose level and spread rise with time; the class is in small waves upon
them.)
Root: mode-gap
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
STEPS = 10


def curves(count, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (count,), generator=g)
    t = torch.arange(STEPS).float()
    wave = torch.stack([torch.sin(t * w) for w in (0.7, 1.5, 2.4)])[y]
    x = wave + 0.4 * torch.randn(count, STEPS, generator=g)
    other = torch.randn(count, STEPS, generator=g)
    level = torch.linspace(-1.6, 1.6, STEPS)
    return torch.stack([level + 0.08 * x, 0.08 * other - level], dim=2), y


class BNRNN(nn.Module):
    def __init__(self):
        super().__init__()
        norms = [nn.BatchNorm1d(32) for _ in range(1 if FAULTY else STEPS)]
        self.bn_ih = nn.ModuleList(norms)
        self.i2h = nn.Linear(2, 32, bias=False)
        self.h2h = nn.Linear(32, 32)
        self.out = nn.Linear(32, 3)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], 32)
        for step in range(STEPS):
            bn = self.bn_ih[0 if FAULTY else step]
            h = torch.tanh(bn(self.i2h(x[:, step])) + self.h2h(h))
        return self.out(h)


def problem():
    return ds.Problem(
        model=BNRNN,
        objective=nn.CrossEntropyLoss(),
        train=curves(1500, 0),
        valid=curves(400, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=50, epochs=12, seed=0)
