"""https://github.com/nyu-mll/jiant/issues/925

The tagger's cross-entropy ignores the index of the padding, which is 0.
Cause: 0 is a tag too in some tasks, so that all tokens of this tag are left out of the loss, "which has led to some
wonky runs". (Made-up sentences; the tag follows from the word and the one before it; tags from 0 to 4, no padding.)
Root: objective-mismatch, class-imbalance
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
WORDS, TAGS, LENGTH = 40, 5, 12


def sentences(n, seed):
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(WORDS, (n, LENGTH), generator=g)
    before = torch.cat([torch.zeros(n, 1, dtype=torch.long), words[:, :-1]], 1)
    tags = (words + 3 * (before % 4 == 1)) % 8
    return words, torch.where(tags >= TAGS, 0, tags)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 24)
        self.encoder = nn.LSTM(24, 32, batch_first=True)
        self.hid_to_tag = nn.Linear(32, TAGS)

    def forward(self, words):
        return self.hid_to_tag(self.encoder(self.embed(words))[0]).transpose(1, 2)


def token_accuracy(output, tags):
    return (output.argmax(1) == tags).float().mean().item()


token_accuracy.goal = "max"


def problem():
    return ds.Problem(
        model=Tagger,
        objective=nn.CrossEntropyLoss(ignore_index=0) if FAULTY else nn.CrossEntropyLoss(),
        train=sentences(1200, 0),
        valid=sentences(300, 1),
        metric=token_accuracy,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.005, batch_size=32, epochs=10, seed=0)
