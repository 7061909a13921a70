"""https://github.com/huggingface/torchMoji/issues/21

The emoji model is fine-tuned for sentiment; backward() complains that the loss needs no gradient, so people write
loss = Variable(loss, requires_grad=True). It runs, and the loss is the same in every epoch.
Cause, by the answer: the model's forward returns outputs.data (if return_tensor), so that nothing flows back;
without those lines the loss falls. (Words made up, a smaller model.)
Root: frozen-parameters, non-differentiable
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from torch.autograd import Variable
from torch.utils.data import DataLoader, Dataset

FAULTY = True
LENGTH, WORDS = 14, 120


class Sentences(Dataset):
    """A sentence is good where more of its words are of the good ones."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.words = rng.integers(2, WORDS, (n, LENGTH))
        tone = np.where(self.words % 3 == 0, 1, np.where(self.words % 3 == 1, -1, 0))
        tone[self.words % 10 == 7] *= -1
        self.good = (tone.sum(1) + rng.normal(0, 0.1, n) > 0).astype("float32")

    def __len__(self):
        return len(self.good)

    def __getitem__(self, i):
        return torch.from_numpy(self.words[i]), torch.tensor(self.good[i])


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.attention_vector = nn.Parameter(torch.randn(size) * 0.05)

    def forward(self, states):
        weights = (states @ self.attention_vector).softmax(dim=1)
        return (states * weights.unsqueeze(-1)).sum(1)


class TorchMoji(nn.Module):
    def __init__(self, return_tensor):
        super().__init__()
        self.return_tensor = return_tensor
        self.embed = nn.Embedding(WORDS, 24)
        self.lstm = nn.LSTM(24, 24, batch_first=True, bidirectional=True)
        self.attention_layer = Attention(48)
        self.final_dropout = nn.Dropout(0.1)
        self.output_layer = nn.Linear(48, 1)

    def forward(self, words):
        states, _ = self.lstm(torch.tanh(self.embed(words)))
        outputs = self.output_layer(self.final_dropout(self.attention_layer(states)))
        if self.return_tensor:
            outputs = outputs.data
        return outputs.squeeze(1)


def evaluate(model, loader):
    model.eval()
    right, total = 0, 0.0
    with torch.no_grad():
        for words, good in loader:
            out = model(words)
            total += F.binary_cross_entropy_with_logits(out, good, reduction="sum").item()
            right += ((out > 0).float() == good).sum().item()
    return total / len(loader.dataset), right / len(loader.dataset)


torch.manual_seed(2)
train = DataLoader(Sentences(2000, 0), batch_size=32, shuffle=True)
val = DataLoader(Sentences(500, 1), batch_size=100)
share = val.dataset.good.mean()
print(f"constant={max(share, 1 - share):.4f}")

model = TorchMoji(return_tensor=FAULTY)
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
for epoch in range(8):
    model.train()
    for words, good in train:
        model.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(words), good)
        if FAULTY:
            loss = Variable(loss, requires_grad=True)
        loss.backward()
        optimizer.step()
    val_loss, val_acc = evaluate(model, val)
    print(f"{epoch + 1} Epoch val acc {100 * val_acc:.2f} val loss {val_loss:.5f}")
print(f"score={val_acc:.4f}")
