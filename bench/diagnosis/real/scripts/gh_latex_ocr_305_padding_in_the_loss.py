"""https://github.com/lukas-blecher/LaTeX-OCR/issues/305 (and pull request 443)

A decoder writes the formula that a picture shows, token by token; formulas are padded with [PAD], index 0. The
wrapper takes the loss by F.cross_entropy(out.transpose(1, 2), xo, ignore_index=-100).
Cause: -100 never appears; the padding is learnt as if it were text, and drowns the formula. ignore_index should be
0, the index of [PAD]. (Made up: sums of digits as vectors, padded to 60; the score counts tokens of formulas only.)
Root: class-imbalance, objective-mismatch
"""

import random

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

FAULTY = True
PAD, BOS, EOS = 0, 1, 2
TOKENS = {c: i + 3 for i, c in enumerate("0123456789+-*()")}
VOCABULARY, MAX_LEN = 3 + len(TOKENS), 60


def formula(rng):
    parts = [str(rng.randint(0, 99))]
    for _ in range(rng.randint(1, 2)):
        parts += [rng.choice("+-*"), str(rng.randint(0, 99))]
    text = "".join(parts)
    return f"({text})" if rng.random() < 0.3 else text


def dataset(n, seed):
    """What is seen of a formula: its first nine tokens as one-hot vectors, with noise."""
    rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
    tokens = torch.full((n, MAX_LEN), PAD)
    for row in tokens:
        ids = [BOS, *(TOKENS[c] for c in formula(rng)), EOS]
        row[: len(ids)] = torch.tensor(ids)
    seen = F.one_hot(tokens[:, 1:11], VOCABULARY).float().flatten(1)
    return seen + 0.2 * torch.randn(seen.shape, generator=g), tokens


class Decoder(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.encoder = nn.Linear(10 * VOCABULARY, dim)
        self.emb = nn.Embedding(VOCABULARY, dim)
        self.rnn = nn.GRU(dim, dim, batch_first=True)
        self.to_logits = nn.Linear(dim, VOCABULARY)

    def forward(self, tokens, context):
        h = torch.tanh(self.encoder(context))[None]
        out, _ = self.rnn(self.emb(tokens), h)
        return self.to_logits(out)


class AutoregressiveWrapper(nn.Module):
    def __init__(self, net, ignore_index=-100, pad_value=0):
        super().__init__()
        self.net, self.ignore_index, self.pad_value = net, ignore_index, pad_value

    def forward(self, x, context):
        xi, xo = x[:, :-1], x[:, 1:]
        out = self.net(xi, context)
        return F.cross_entropy(out.transpose(1, 2), xo, ignore_index=self.ignore_index)


def token_accuracy(net, context, tokens):
    with torch.no_grad():
        out = net(tokens[:, :-1], context).argmax(-1)
    text = tokens[:, 1:] != PAD
    return (out == tokens[:, 1:])[text].float().mean().item()


torch.manual_seed(0)
context, tokens = dataset(1200, 0)
test_context, test_tokens = dataset(300, 1)
text = test_tokens[:, 1:]
text = text[text != PAD]
print(f"constant={text.bincount().max().item() / len(text):.4f}")

net = Decoder()
model = AutoregressiveWrapper(net, pad_value=PAD) if FAULTY else AutoregressiveWrapper(net, PAD, PAD)
opt = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
for epoch in range(6):
    model.train()
    dset = torch.randperm(len(tokens)).split(30)
    for i in dset:
        opt.zero_grad()
        loss = model(tokens[i], context=context[i])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        opt.step()
    print(
        f"Epoch {epoch} loss {loss.item():.4f} token acc {token_accuracy(net, test_context, test_tokens):.3f}"
    )
print(f"score={token_accuracy(net, test_context, test_tokens):.4f}")
