"""https://github.com/huggingface/transformers/issues/735

BERT is fine-tuned to classify; after it the encoder gives the same output for all inputs.
Answered by several: the learning rate. "Changing my learning rate from 0.01 to 5e-5 worked for me"; others
confirm. (Six small layers that are trained from the start, so that 5e-4 is a rate that works here.)
Root: learning-rate-too-high
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class BertForSequenceClassification(nn.Module):
    def __init__(self, vocabulary=30, length=12, hidden=32, layers=6, classes=3):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, hidden)
        self.position_embeddings = nn.Parameter(torch.randn(length, hidden) * 0.02)
        self.LayerNorm = nn.LayerNorm(hidden)
        layer = nn.TransformerEncoderLayer(hidden, 4, 4 * hidden, 0.1, "gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.pooler = nn.Linear(hidden, hidden)
        self.classifier = nn.Linear(hidden, classes)

    def forward(self, ids):
        x = self.encoder(self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings))
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def sentences(n, seed):
    """Word 0 stands first; the class is which of three groups of words the sentence has most of."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 30, (n, 12), generator=g)
    ids[:, 0] = 0
    votes = torch.stack([((ids > 0) & (ids % 3 == c)).sum(1) for c in range(3)], 1)
    return ids, votes.argmax(1)


def problem():
    return ds.Problem(
        model=BertForSequenceClassification,
        objective=nn.CrossEntropyLoss(),
        train=sentences(960, 0),
        valid=sentences(300, 1),
        metric="accuracy",
    )


def recipe():
    lr = 0.01 if FAULTY else 5e-4
    return ds.Recipe(
        optimizer=lambda params: torch.optim.AdamW(params, lr=lr), batch_size=32, epochs=8, seed=0
    )
