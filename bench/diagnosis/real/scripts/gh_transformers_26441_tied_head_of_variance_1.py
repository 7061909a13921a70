"""https://github.com/huggingface/transformers/pull/26441

A language model with tied embeddings. The matrix that is also the lm_head starts with variance 1, so the logits
come out with a variance of about the hidden size: the first cross entropy is about 110, "very high for logits",
where the logarithm of the vocabulary is 10.
Remedy of the pull request: variance 1 / hidden size; the loss then starts near what one expects.
(A small decoder on a made-up Markov text; the score is minus the cross entropy.)
Root: init-scale
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True

VOCAB, D_MODEL, BLOCK = 64, 128, 24


class Block(nn.Module):
    def __init__(self, d, heads=4):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x, mask):
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(VOCAB, D_MODEL)
        self.position = nn.Embedding(BLOCK, D_MODEL)
        self.block = nn.ModuleList([Block(D_MODEL)])
        self.final_layer_norm = nn.LayerNorm(D_MODEL)
        self.lm_head = nn.Linear(D_MODEL, VOCAB, bias=False)
        self.lm_head.weight = self.shared.weight
        factor = 1.0 if FAULTY else D_MODEL**-0.5
        self.shared.weight.data.normal_(mean=0.0, std=factor)
        self.position.weight.data.normal_(mean=0.0, std=D_MODEL**-0.5)
        self.register_buffer("mask", torch.triu(torch.ones(BLOCK, BLOCK, dtype=torch.bool), 1))

    def forward(self, ids):
        x = self.shared(ids) + self.position.weight
        for block in self.block:
            x = block(x, self.mask)
        return self.lm_head(self.final_layer_norm(x))


def markov_text(n, successors, gen):
    """Each token has four successors, taken with probabilities .55, .25, .15, .05."""
    text = torch.zeros(n, BLOCK + 1, dtype=torch.long)
    text[:, 0] = torch.randint(0, VOCAB, (n,), generator=gen)
    weights = torch.tensor([0.55, 0.25, 0.15, 0.05])
    for t in range(BLOCK):
        pick = torch.multinomial(weights, n, replacement=True, generator=gen)
        text[:, t + 1] = successors[text[:, t], pick]
    return text


def cross_entropy(model, text):
    return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
successors = torch.stack([torch.randperm(VOCAB, generator=gen)[:4] for _ in range(VOCAB)])
train_text, val_text = markov_text(2000, successors, gen), markov_text(200, successors, gen)
share = torch.bincount(train_text.flatten(), minlength=VOCAB) / train_text.numel()
print(f"constant={share[val_text[:, 1:]].log().mean().item():.4f}")

model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
steps = 160
scheduler = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda s: min(1, (s + 1) / 20) * 0.5 * (1 + math.cos(math.pi * s / steps))
)
for step in range(1, steps + 1):
    model.train()
    loss = cross_entropy(model, train_text[torch.randint(0, len(train_text), (32,))])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step == 1 or step % 20 == 0:
        model.eval()
        with torch.no_grad():
            val_loss = cross_entropy(model, val_text).item()
        print(f"step {step}: train loss {loss.item():.4f} val loss {val_loss:.4f}")
print(f"score={-val_loss:.4f}")
