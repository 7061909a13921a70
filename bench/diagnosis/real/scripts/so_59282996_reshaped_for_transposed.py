"""https://stackoverflow.com/questions/59282996 (DeepFD)

Asked: sequences of up to 20 steps with five features each, padded with zeros, a label of 1 or 2 for each
step; in Keras a Masking layer, a bidirectional LSTM of 20, dropout 0.2, Dense(3, sigmoid), sparse categorical
cross-entropy, SGD with rate 0.01 and Nesterov's momentum 0.9. Is the masking without effect? The predictions
are no better than guessed.
Answered: the arrays are five rows of 20, and x.reshape((20, 5)) does not turn them but mixes steps and
features; x.T does, and only then are the padded steps zero throughout. (DeepFD: training data quality,
besides the number of epochs. Self-made sequences as the asker's: features about 0 for label 1,
larger for 2.)
Root: mixed-examples
"""

import numpy as np
import torch
from torch import nn

FAULTY = True

torch.manual_seed(0)
rng = np.random.default_rng(0)


def sequence():
    steps = rng.integers(5, 21)
    labels = np.zeros(20)
    labels[:steps] = rng.integers(1, 3, steps)
    x = rng.standard_normal((5, 20)) + np.where(labels == 2, 1.2, 0.0)
    x[:, steps:] = 0.0
    return x, labels


def batch_array(count):
    pairs = [sequence() for _ in range(count)]
    x = np.array([x.reshape((20, 5)) if FAULTY else x.T for x, _ in pairs])
    y = np.array([labels for _, labels in pairs])
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.long)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 20, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.2)
        self.dense = nn.Linear(40, 3)

    def forward(self, x):
        return torch.sigmoid(self.dense(self.drop(self.lstm(x)[0])))


def sparse_categorical_crossentropy(p, y, mask):
    """Keras': scaled to a sum of one, clipped, minus the logarithm; a mean over the steps not masked."""
    p = (p / p.sum(dim=-1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    loss = -p.gather(-1, y.unsqueeze(-1)).squeeze(-1).log()
    return (loss * mask).sum() / mask.sum()


x_train, y_train = batch_array(200)
x_test, y_test = batch_array(100)
model = Tagger()
sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)

real = y_test > 0
share = (y_test[real] == 1).float().mean().item()
print(f"constant={max(share, 1 - share):.4f}")
for epoch in range(30):
    model.train()
    for rows in torch.randperm(len(x_train)).split(20):
        mask = (x_train[rows] != 0).any(-1).float()
        loss = sparse_categorical_crossentropy(model(x_train[rows]), y_train[rows], mask)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    if epoch % 5 == 0:
        print("epoch", epoch, "loss", loss.item())

model.eval()
with torch.no_grad():
    tag = model(x_test).argmax(-1)
print(f"score={(tag == y_test)[real].float().mean().item():.4f}")
