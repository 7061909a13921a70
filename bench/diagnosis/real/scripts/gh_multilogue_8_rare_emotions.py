"""https://github.com/amanshenoy/multilogue-net/issues/8

Emotions in talks from three modes (text, sound, picture) over the turns of a dialogue; the models of all
emotions but happiness predict one class only: the confusion matrix has a column of zeros.
Answer of the author: that happens because of how imbalanced the dataset is; class_weights solve it.
(Talks made up, one turn in 40 is of the emotion; the score is the mean recall of both classes.)
Root: class-imbalance
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True

torch.manual_seed(0)
rng = np.random.default_rng(0)
TURNS = 10
signs = [rng.normal(size=d) * 0.45 for d in (12, 8, 8)]


def dialogues(n):
    emotion = (rng.random((n, TURNS)) < 1 / 40).astype(int)
    modes = [rng.normal(size=(n, TURNS, len(s))) + emotion[..., None] * s for s in signs]
    return [torch.tensor(m, dtype=torch.float32) for m in modes], torch.tensor(emotion)


class MultilogueNet(nn.Module):
    def __init__(self, d_h=16):
        super().__init__()
        self.grus = nn.ModuleList([nn.GRU(len(s), d_h, batch_first=True) for s in signs])
        self.smax_fc = nn.Linear(3 * d_h, 2)

    def forward(self, modes):
        states = [gru(mode)[0] for gru, mode in zip(self.grus, modes, strict=True)]
        return self.smax_fc(torch.tanh(torch.cat(states, dim=-1)))


def confusion(pred, label):
    matrix = torch.zeros(2, 2)
    for truth, found in zip(label.flatten(), pred.flatten(), strict=True):
        matrix[truth, found] += 1
    return matrix


train, train_label = dialogues(500)
test, test_label = dialogues(300)
print(f"constant={0.5:.4f}")

class_weights = None
if not FAULTY:
    share = train_label.float().mean().item()
    class_weights = torch.tensor([0.5 / (1 - share), 0.5 / share])

model = MultilogueNet()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001, weight_decay=1e-4)
for epoch in range(8):
    model.train()
    for rows in torch.randperm(len(train_label)).split(25):
        optimizer.zero_grad()
        logits = model([mode[rows] for mode in train])
        loss = F.cross_entropy(logits.flatten(0, 1), train_label[rows].flatten(), weight=class_weights)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        out = model(test)
        valid = F.cross_entropy(out.flatten(0, 1), test_label.flatten(), weight=class_weights).item()
    print(f"epoch {epoch + 1} train_loss {loss.item():.4f} valid_loss {valid:.4f}")

matrix = confusion(out.argmax(-1), test_label)
print(matrix)
print(f"score={(matrix.diag() / matrix.sum(1)).mean().item():.4f}")
