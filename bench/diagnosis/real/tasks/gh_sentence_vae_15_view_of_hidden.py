"""https://github.com/timbmg/Sentence-VAE/issues/15

A sentence is encoded by a bidirectional GRU and decoded from its last states. Asked about:
hidden.view(batch_size, hidden_size * factor), where hidden is (directions, batch, hidden): batch_first
concerns the output only. Shown there: view(3, 4*2) against cat([t[i] for i in range(2)], dim=1).
Cause: the view puts states of two different sentences into one row. Remedy: concatenate the directions.
(Made up: sentences of five words out of six; the decoder sees the code alone.)
Root: mixed-examples
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True
WORDS, LENGTH, HIDDEN = 6, 5, 32


def sentences(count, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, WORDS, (count, LENGTH), generator=g)
    return x, x.clone()


class SentenceAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 16)
        self.encoder_rnn = nn.GRU(16, HIDDEN, batch_first=True, bidirectional=True)
        self.hidden2latent = nn.Linear(2 * HIDDEN, 32)
        self.decoder_rnn = nn.GRU(32, 64, batch_first=True)
        self.outputs2vocab = nn.Linear(64, WORDS)

    def forward(self, sequence):
        batch_size = sequence.size(0)
        _, hidden = self.encoder_rnn(self.embedding(sequence))
        if FAULTY:
            hidden = hidden.view(batch_size, 2 * HIDDEN)
        else:
            hidden = torch.cat([hidden[0], hidden[1]], dim=1)
        z = self.hidden2latent(hidden)
        outputs, _ = self.decoder_rnn(z.unsqueeze(1).expand(-1, LENGTH, -1))
        return self.outputs2vocab(outputs)


def reconstruction(logits, target):
    return F.cross_entropy(logits.reshape(-1, WORDS), target.reshape(-1))


def words_right(logits, target):
    return (logits.argmax(-1) == target).float().mean().item()


def problem():
    return ds.Problem(
        model=SentenceAE,
        objective=reconstruction,
        train=sentences(1600, 0),
        valid=sentences(400, 1),
        metric=words_right,
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=50, epochs=9, seed=0)
