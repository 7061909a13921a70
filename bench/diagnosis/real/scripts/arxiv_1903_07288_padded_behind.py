"""https://arxiv.org/abs/1903.07288 (Dwarampudi and Reddy: Effects of padding on LSTMs and CNNs)

The sentiment of short messages, padded with zeros to the longest. An LSTM reads embeddings, its last state
is classified. Padded in front: 80 % on held-out messages; padded behind: 50 %, a guess.
Cause by the authors: read last, the zeros make the network forget what it had read. (Messages made up.)
Root: long-term-dependency
"""

import random

import torch
from torch import nn

FAULTY = True

random.seed(5)
torch.manual_seed(5)
MAX_LENGTH, WORDS = 60, 80


def pad_sequences(sequences, maxlen, padding):
    rows = []
    for words in sequences:
        zeros = [0] * (maxlen - len(words))
        rows.append(words + zeros if padding == "post" else zeros + words)
    return torch.tensor(rows)


def tweet():
    """Up to eight words, of which the first twenty praise and the next twenty complain."""
    positive = random.random() < 0.5
    mood = [random.randint(1, 20) + (0 if positive else 20) for _ in range(random.randint(1, 3))]
    words = mood + [random.randint(41, WORDS) for _ in range(random.randint(2, 5))]
    random.shuffle(words)
    return words, float(positive)


def dataset(n):
    words, labels = zip(*(tweet() for _ in range(n)), strict=True)
    return pad_sequences(words, MAX_LENGTH, "post" if FAULTY else "pre"), torch.tensor(labels)


class Sentiment(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS + 1, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.dense = nn.Linear(24, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(self.embedding(x))
        return torch.sigmoid(self.dense(h[-1])).squeeze(1)


x_train, y_train = dataset(960)
x_test, y_test = dataset(400)
print(f"constant={max(y_test.mean().item(), 1 - y_test.mean().item()):.4f}")

model = Sentiment()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
binary_crossentropy = nn.BCELoss()
for epoch in range(10):
    order = torch.randperm(len(x_train))
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        loss = binary_crossentropy(model(x_train[batch]), y_train[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = model(x_test)
    val = binary_crossentropy(found, y_test).item()
    accuracy = ((found > 0.5).float() == y_test).float().mean().item()
    print(f"epoch {epoch + 1}: loss {loss.item():.4f} val_loss {val:.4f} val_acc {accuracy:.4f}")
print(f"score={accuracy:.4f}")
