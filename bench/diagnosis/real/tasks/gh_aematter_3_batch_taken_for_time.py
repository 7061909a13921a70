"""https://github.com/aipixel/AEMatter/issues/3 (much the same: https://github.com/om-ai-lab/OmDet/issues/19)

Attention over rows and columns of a picture: the tensors are made ready as (batch, tokens, channels), and the
nn.MultiheadAttention that takes them is made with batch_first=False.
Cause: the batch is taken for the sequence; the author calls it a bug. (A made-up task here: a table of keys and
values and a key that is asked for; which value stands beside it?)
Root: mixed-examples
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
KEYS, VALUES = 6, 5


def tables(n, seed):
    """Six tokens, each a key and its value, in any order, and a seventh with the key that is asked for."""
    g = torch.Generator().manual_seed(seed)
    keys = torch.rand(n, KEYS, generator=g).argsort(1)
    values = torch.randint(VALUES, (n, KEYS), generator=g)
    asked = torch.randint(KEYS, (n,), generator=g)
    label = (values * (keys == asked[:, None])).sum(1)
    tokens = torch.cat([nn.functional.one_hot(keys, KEYS), nn.functional.one_hot(values, VALUES)], -1).float()
    last = torch.cat([nn.functional.one_hot(asked, KEYS).float(), torch.zeros(n, VALUES)], -1)
    return torch.cat([tokens, last[:, None]], 1), label


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=not FAULTY)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x):
        y = self.norm(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(x)


class Net(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.embed = nn.Linear(KEYS + VALUES, dim)
        self.blocks = nn.ModuleList([Block(dim, 4) for _ in range(2)])
        self.head = nn.Linear(dim, VALUES)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


def problem():
    return ds.Problem(
        model=Net, objective="cross_entropy", train=tables(2000, 0), valid=tables(500, 1), metric="accuracy"
    )


def recipe():
    return ds.Recipe(optimizer="adamw", lr=0.003, batch_size=32, epochs=15, seed=0)
