"""https://github.com/RUCAIBox/RecBole/issues/2046

A recommender with loaded embeddings does not learn; with and without them the results are the same.
Answer: set freeze=False; the documentation of nn.Embedding.from_pretrained says that by default "the
tensor does not get updated in the learning process". (Made up: users and items of a few tastes; the loaded
vectors have nothing to do with them, beside them only biases are learnt.)
Root: frozen-parameters
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
USERS, ITEMS, SIZE = 120, 80, 8


def ratings():
    g = torch.Generator().manual_seed(0)
    users, items = torch.randn(USERS, 3, generator=g), torch.randn(ITEMS, 3, generator=g)
    scores = users @ items.T / 3**0.5 + 0.2 * torch.randn(USERS, ITEMS, generator=g)
    order = torch.randperm(USERS * ITEMS, generator=g)
    pairs = torch.stack([order // ITEMS, order % ITEMS], dim=1)
    stars = scores.flatten()[order]
    return (pairs[:8000], stars[:8000]), (pairs[8000:], stars[8000:])


class DotProduct(nn.Module):
    def __init__(self):
        super().__init__()
        pretrained = 0.3 * torch.randn(USERS + ITEMS, SIZE)
        self.user = nn.Embedding.from_pretrained(pretrained[:USERS], freeze=FAULTY)
        self.item = nn.Embedding.from_pretrained(pretrained[USERS:], freeze=FAULTY)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, pairs):
        user, item = pairs.unbind(1)
        dot = (self.user(user) * self.item(item)).sum(1)
        return dot + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)


def problem():
    train, valid = ratings()
    return ds.Problem(model=DotProduct, objective=nn.MSELoss(), train=train, valid=valid, metric="r2")


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=128, epochs=20, seed=0)
